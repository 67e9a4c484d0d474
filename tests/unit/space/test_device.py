"""What `prepare` sets for a whole process."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from tailnas.space.device import prepare
prepare("cpu", 1)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(*(faults() for _ in range(8)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is one of glibc's allocator")
def test_memory_that_a_step_freed_serves_the_next() -> None:
    ran = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, check=True)
    first, *_, last = map(int, ran.stdout.split())
    assert last < first / 10

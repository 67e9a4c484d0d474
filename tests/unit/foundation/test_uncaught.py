"""Ctrl-C and want of memory while a command still imports its libraries: no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
RAISED = {
    "KeyboardInterrupt": "",
    "MemoryError": "memory: not enough; allowed: ",
    "ImportError('libx.so: failed to map segment from shared object')": "memory: not enough; allowed: ",
    "OSError(24, 'Too many open files', 'libx.so')": "libx.so: Too many open files; allowed: ",
    "ModuleNotFoundError(name='numpy')": "numpy: not installed; allowed: the environment that `make install` makes",
    "ModuleNotFoundError(name='tailnas.gone')": "Traceback",
    "ValueError('a bug')": "Traceback",
}


@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("package", ["stages", "workflow"])
def test_what_ends_an_import(tmp_path, package, raised):
    command = [sys.executable, "-S", "-c", f"import {package}\nraise {raised}"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode and ended.stderr.startswith(RAISED[raised]), ended.stderr
    assert "Traceback" in RAISED[raised] or len(ended.stderr.splitlines()) <= 1


def test_commands_of_the_package_say_it_in_one_line_and_the_library_leaves_errors_alone(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ask = "import sys, tailnas; sys.exit(sys.excepthook is sys.__excepthook__)"
    for argv, hooked in (("-m", 0), ("-c", 1)):
        code = f"import sys; sys.argv[0] = {argv!r}; {ask}"
        assert subprocess.run([sys.executable, "-S", "-c", code], env=environment, check=False).returncode == hooked

"""Stage scripts in processes of their own that share one start-up: torch is imported once, not once per script."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import resource
import runpy
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .project import PATIENCE, REPOSITORY
from .traced import traced_reads

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(
    [
        *("torch", "torch._dynamo", "torch.utils.tensorboard", "torchvision", "pandas", "pydantic"),
        *("safetensors.torch", "sklearn.metrics", "scipy.stats"),
    ]
)


@dataclass(frozen=True)
class Ended:
    """What became of a script: exit status and the text of both streams."""

    status: int
    out: str
    err: str


def run_stage(
    root: Path,
    name: str,
    *arguments: str,
    file_size: int | None = None,
    trace: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """`python -m stages.NAME ARGUMENTS` in `root`.

    file_size: bytes after which the disk is full, for any one file. trace: where to write what the script imported and
    which parameters it read. environment: more of it.
    """
    streams = [root.parent / f"{root.name}.{stream}" for stream in ("out", "err")]
    process = _server.Process(
        target=_script, args=(str(root), name, arguments, list(map(str, streams)), file_size, trace, environment)
    )
    process.start()
    process.join(PATIENCE)
    assert process.exitcode is not None, f"stages.{name} hangs"
    return Ended(process.exitcode, *(stream.read_text() for stream in streams))


def _script(
    root: str,
    name: str,
    arguments: tuple[str, ...],
    streams: list[str],
    file_size: int | None,
    trace: Path | None,
    environment: Mapping[str, str] | None,
) -> None:
    os.environ.update(environment or {})
    for descriptor, path in zip((1, 2), streams, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", closefd=False) for descriptor in (1, 2))
    os.chdir(root)
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    sys.argv = [name, *arguments]
    status: object = 0
    reads = traced_reads() if trace else set()
    try:
        runpy.run_module(f"stages.{name}", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    if trace:
        files = [str(module.__file__) for module in sys.modules.values() if getattr(module, "__file__", None)]
        imported = sorted(os.path.relpath(file, REPOSITORY) for file in files if file.startswith(f"{REPOSITORY}/"))
        trace.write_text(json.dumps({"imported": imported, "read": sorted(reads)}))
    if isinstance(status, str):
        print(status, file=sys.stderr)
        status = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 0)

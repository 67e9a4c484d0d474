"""Results and checkpoints from one machine to the next, in files small enough to travel."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

from benchmarks.gpu_day.results import FILE
from tailnas.foundation.errors import UserError

PIECE = 15 * 2**20
PIECES = 4
NAME = "state"
LEFT_BEHIND = "data", "events", "logs", "sharing", "supernet.safetensors"
"""Names of files and folders that the next call does not need or makes anew."""


def pack(folder: Path, target: Path) -> None:
    """Copy the results, and as much of the rest as PIECES pieces hold, the smallest files first."""
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob(f"{NAME}-*"):
        old.unlink()
    shutil.copyfile(folder / FILE, target / FILE)
    files = [
        file
        for file in folder.rglob("*")
        if file.is_file() and not file.is_symlink() and not set(file.relative_to(folder).parts) & set(LEFT_BEHIND)
    ]
    content = io.BytesIO()
    left_out = []
    with tarfile.open(fileobj=content, mode="w") as tar:
        for file in sorted(files, key=lambda file: (file.stat().st_size, str(file))):
            if content.tell() + file.stat().st_size + 10240 > PIECE * PIECES:
                left_out.append(file)
                continue
            tar.add(file, str(file.relative_to(folder)))
    whole = content.getvalue()
    for index, start in enumerate(range(0, len(whole), PIECE)):
        (target / f"{NAME}-{index}").write_bytes(whole[start : start + PIECE])
    if left_out:
        print(f"{target}: {len(left_out)} checkpoints left out for want of room; their trainings begin again")


def unpack(source: Path, folder: Path) -> None:
    """Put what `pack` wrote into `folder`, unless that holds results already.

    Raises UserError for anything that `pack` does not write, such as a link or a name that leads out of `folder`.
    """
    if (folder / FILE).exists():
        return
    pieces = sorted(source.glob(f"{NAME}-*"), key=lambda path: path.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(b"".join(piece.read_bytes() for piece in pieces))) as tar:
            for member in tar:
                _place(tar, member, folder)
        shutil.copyfile(source / FILE, folder / FILE)
    except (OSError, tarfile.TarError) as error:
        raise UserError(f"{source}: {error}; allowed: what --output wrote") from None


def _place(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    content, name = tar.extractfile(member) if member.isreg() else None, Path(member.name)
    if content is None or name.is_absolute() or ".." in name.parts:
        raise tarfile.TarError(f"{member.name!r} is no file below the folder")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.read())

"""The user's images lie apart from what stages write: DVC empties an output before its stage runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tailnas.data.dataset import FILES
from tailnas.fetch.class_folders import listed
from tailnas.fetch.source import watched
from tailnas.foundation.errors import UserError, short
from tailnas.foundation.extensions import Chosen
from tailnas.foundation.pipeline import outputs, overlap, places
from tailnas.validate.parameters import Params

RAW = Path("data/raw")
OURS = {*FILES, ".snakemake_timestamp"}


def require_apart(params: Params, document: dict[str, Any]) -> None:
    """Raises UserError, one line with the key, where a stage would overwrite what the user put there.

    document: what `params` was read from.
    """
    written = list(outputs(document))
    for _, output in written:
        _require_inside(Path(output).parent)
    data = {"source": params.data.source, "target": params.data.target}
    for role, source in data.items():
        for key, path in _places(source):
            for stage, output in written:
                if overlap(path, output):
                    given = short(getattr(source.settings, key))
                    inside = "" if path == source.settings.own_folders()[key] else f" ({path})"
                    raise UserError(
                        f"params.yaml: data.{role}.{key}: {given}{inside} is, holds or lies inside {output}, which the "
                        f"stage {stage} overwrites; allowed: a folder apart from what stages write"
                    )
    for role, source in data.items():
        _require_ours(RAW / source.settings.name, f"params.yaml: data.{role}.name: {short(source.settings.name)}")


def _require_inside(folder: Path) -> None:
    """Raises UserError where a link leads out of Git's repository: DVC would fail after the stage, naming no link."""
    here = Path.cwd().resolve()
    root = next((above for above in (here, *here.parents) if (above / ".git").exists()), None)
    if root is None or folder.resolve().is_relative_to(root):
        return
    link = next(path for path in (*reversed(folder.parents), folder) if path.is_symlink())
    raise UserError(
        f"{link}: a link to {link.resolve()}, outside of the repository; allowed: a folder (for a larger disk: the "
        "whole checkout there, or a bind mount; `dvc cache dir` moves the cache)"
    )


def _places(source: Chosen) -> Iterator[tuple[str, Path]]:
    """Key and path of what the user named, and of folders and links below that lead elsewhere."""
    for key, folder in source.settings.own_folders().items():
        yield key, folder
        files = watched(source)
        below = {file.parent for file in files} | {file for file in files if file.is_symlink()}
        yield from ((key, path) for path in sorted(below) if len(places(path)) > 1)


def _require_ours(folder: Path, key: str) -> None:
    if folder.is_dir() and not folder.is_symlink():
        others = sorted({entry.name for entry in folder.iterdir()} - OURS)
    else:
        others = [folder.name] if folder.is_symlink() or folder.exists() else []
    if others:
        raise UserError(
            f"{key}: {folder} holds {listed(others)}, which no stage wrote and fetch would delete; "
            "allowed: another name, or move them elsewhere"
        )

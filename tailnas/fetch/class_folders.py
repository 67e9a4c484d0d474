"""Directories of image files, one per class."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tailnas.foundation.class_names import wrong_class_name
from tailnas.foundation.errors import UserError

IGNORED = {"thumbs.db", "desktop.ini", "__macosx"}
"""What file managers leave behind; names that start with a dot are ignored as well."""

NAMED_AT_MOST = 10


def class_files(root: Path, key: str) -> dict[str, list[Path]]:
    """The files of each directory below `root`, at any depth, sorted by path; classes sorted by name.

    Every file counts, whether it is an image or not. key: the parameter that errors name. Raises UserError for a
    missing or unreadable folder, fewer than two classes, a class without files or two names of one file.
    """
    if not root.is_dir():
        found = "is not a folder" if root.exists() else "no such folder"
        raise UserError(f"{key}: {root}: {found}{elsewhere(root)}; allowed: a folder with one directory per class")
    classes = {folder.name: sorted(files_below(folder, key), key=os.fspath) for folder in subfolders(root, key)}
    if len(classes) < 2:
        raise UserError(f"{key}: {root}: {len(classes)} directories; allowed: one per class, at least 2")
    if wrong := wrong_class_name(classes):
        raise UserError(f"{key}: {root}: {wrong}")
    _require_classes(root, classes, key)
    empty = [name for name, files in classes.items() if not files]
    if empty:
        raise UserError(f"{key}: {root}: no files in {listed(empty)}; allowed: at least one image in each class")
    return classes


def elsewhere(path: Path) -> str:
    """Why a path may not be there: `dvc exp run --temp` and `dvc queue` compute in a copy of what Git tracks."""
    if path.is_absolute() or ".dvc/tmp/exps" not in Path.cwd().as_posix():
        return ""
    return " in the copy in which `dvc exp run --temp` computes: name it from the root of the file system"


def _require_classes(root: Path, classes: dict[str, list[Path]], key: str) -> None:
    """Raises UserError where directories are parts of the data that hold classes."""
    parts = {name: {folder.name for folder in subfolders(root / name, key)} for name in classes}
    first = parts[min(parts)]
    own = {file.parent for files in classes.values() for file in files}
    if len(first) > 1 and all(found == first for found in parts.values()) and own.isdisjoint(root / n for n in classes):
        raise UserError(
            f"{key}: {root}: {listed(sorted(parts))} all hold the same directories ({listed(sorted(first))}), and no "
            "files of their own; allowed: the classes themselves, or train/ and test/ that hold them"
        )


def subfolders(folder: Path, key: str) -> list[Path]:
    """The directories in `folder`, sorted by name. Raises UserError where it cannot be read."""
    return [folder / name for name in sorted(entry.name for entry in _entries(folder, key) if _is_folder(entry))]


def listed(names: list[str]) -> str:
    """Up to ten names in quotes, and how many more there are."""
    return first([repr(name) for name in names])


def first(texts: list[str]) -> str:
    """Up to ten texts, and how many more there are."""
    more = len(texts) - NAMED_AT_MOST
    return ", ".join(texts[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def require_distinct(files: list[Path], key: str) -> None:
    """Raises UserError where links give one file two names: it could be trained on and tested on."""
    seen: dict[tuple[int, int], Path] = {}
    for path in files:
        try:
            status = path.stat()
        except OSError:
            continue
        first = seen.setdefault((status.st_dev, status.st_ino), path)
        if first is not path and status.st_ino:
            raise UserError(f"{key}: {str(first)!r} and {str(path)!r} are the same file; allowed: each image once")


def _entries(folder: Path, key: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except OSError as error:
        raise UserError(f"{key}: {folder}: cannot be read ({error.strerror}); allowed: a readable folder") from None
    return (entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in IGNORED)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Without asking the file system where its listing has said so; a link that leads in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def files_below(folder: Path, key: str) -> Iterator[Path]:
    """Every file in `folder`, at any depth. Raises UserError where a folder cannot be read."""
    open_folders, seen = [folder], set()
    while open_folders:
        current = open_folders.pop()
        identity = current.resolve()
        if identity in seen:  # a link back to a folder above
            continue
        seen.add(identity)
        for entry in _entries(current, key):
            if _is_folder(entry):
                open_folders.append(current / entry.name)
            else:
                yield current / entry.name


def names_below(root: Path, files: Iterable[Path]) -> list[str]:
    """Paths of files below `root`, from there on, with / between their parts."""
    start = 0 if root == Path() else len(root.as_posix().rstrip("/")) + 1
    return [file.as_posix()[start:] for file in files]

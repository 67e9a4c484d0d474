"""CIFAR-10 and CIFAR-100 from their published archives, downloaded or found in a folder.

Addresses, file names and checksums are torchvision's. Archive members are read where they lie (nothing is unpacked)
and as data (nothing is unpickled).
"""

from __future__ import annotations

import lzma
import posixpath
import tarfile
import zlib
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tailnas.data.dataset import Dataset
from tailnas.fetch.class_folders import elsewhere
from tailnas.fetch.download import Checksum, fetched
from tailnas.fetch.pickled_values import Refused, pickled_dict, text
from tailnas.fetch.resize import resized
from tailnas.fetch.settings import DataSet
from tailnas.foundation.class_names import wrong_class_name
from tailnas.foundation.errors import UserError

DOWNLOADS = Path("data/downloads")
"""Where archives are kept, so that another image size needs no second download."""

SIDE = 32
LARGEST_MEMBER = 2**30


class Archive(DataSet):
    """Where the archive comes from."""

    root: str | None = Field(description="Local folder that holds the archive or its batches; null downloads it.")
    url: Annotated[str, Field(pattern=r"^https?://")] | None = Field(
        description="Address of the archive; null is the one that torchvision knows."
    )
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        description="Checksum of the archive; null is the one of the published archive."
    )

    local_paths: ClassVar[tuple[str, ...]] = ("root",)


def load(published: Any, label_key: str, settings: Archive, kind: str, image_size: int, channels: int) -> Dataset:
    """published: torchvision's data set class. label_key: where its batches keep the labels.

    kind: its name here.
    """
    files = _files(published, settings)
    names = _class_names(files, published.meta["filename"], published.meta["key"])
    train_images, train_labels = _part(files, published.train_list, label_key, names, image_size, channels)
    test_images, test_labels = _part(files, published.test_list, label_key, names, image_size, channels)
    return Dataset(train_images, train_labels, test_images, test_labels, names, settings.name, kind)


def _part(
    files: _Files,
    batches: list[list[str]],
    label_key: str,
    names: tuple[str, ...],
    image_size: int,
    channels: int,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    read = [_batch(files, file, label_key, len(names)) for file, _ in batches]
    images = np.concatenate([pixels for pixels, _ in read]).reshape(-1, 3, SIDE, SIDE)
    labels = np.concatenate([given for _, given in read])
    missing = np.flatnonzero(np.bincount(labels, minlength=len(names)) == 0)
    if len(missing):
        where = ", ".join(files.path(file) for file, _ in batches)
        raise UserError(f"{where}: no image of class {names[missing[0]]!r}; allowed: at least one of each class")
    if (image_size, channels) != (SIDE, 3):
        images = resized(images.transpose(0, 2, 3, 1), image_size, channels)
    return images, labels


def published_counts(settings: Archive, num_classes: int, per_class: int) -> list[int] | None:
    """Training images of each class, None for an archive that is not the published one.

    Raises UserError for a `root` that is not there.
    """
    if settings.root is not None and settings.url is None and not settings.own_folders()["root"].exists():
        why = elsewhere(settings.own_folders()["root"])
        raise UserError(_key(settings, f"root: {settings.root}: no such folder{why}; allowed: {_ROOT}"))
    return [per_class] * num_classes if settings.sha256 is None else None


_ROOT = "a folder with the archive or its extracted batches, or null to download"


def _key(settings: Archive, rest: str) -> str:
    return f"data: {settings.name}: {rest}"


class _Files:
    """The files of one data set, by their names: `[name]` is the content."""

    def __init__(self, where: str, contents: dict[str, bytes]) -> None:
        self.where = where
        self.contents = contents

    def path(self, name: str) -> str:
        return posixpath.join(self.where, name)

    def __getitem__(self, name: str) -> bytes:
        if name not in self.contents:
            raise UserError(f"{self.where}: holds no {name}; allowed: the whole data set")
        return self.contents[name]


def _files(published: Any, settings: Archive) -> _Files:
    """From `root`, where that holds the archive or its extracted batches, else by download.

    `sha256` stands in for the published checksum of the archive. With both `root` and `url` a missing archive is
    downloaded into `root`.
    """
    wanted = [*published.train_list, *published.test_list, [published.meta["filename"], published.meta["md5"]]]
    checksum = Checksum("md5", published.tgz_md5)
    if settings.sha256 is not None:
        checksum = Checksum("sha256", settings.sha256)
    if settings.root is None:
        folder = DOWNLOADS
    else:
        folder = settings.own_folders()["root"]
        archive = folder if folder.is_file() else folder / published.filename
        if archive.is_file():
            checksum.require(archive, str(archive))
            return _archived(archive, published.base_folder, wanted)
        for batches in (folder / published.base_folder, folder):
            if (batches / wanted[0][0]).is_file():
                return _extracted(batches, wanted, settings)
        if settings.url is None:
            found = f"holds neither {published.filename} nor {published.base_folder}/"
            raise UserError(_key(settings, f"root: {folder}: {found}; allowed: {_ROOT}"))
    url = published.url if settings.url is None else settings.url
    archive = fetched(url, folder / published.filename, checksum, _key(settings, "url"))
    return _archived(archive, published.base_folder, wanted)


def _extracted(folder: Path, wanted: list[list[str]], settings: Archive) -> _Files:
    if settings.sha256 is not None:
        given = f"{settings.sha256} is of an archive, but {folder} holds extracted batches"
        raise UserError(_key(settings, f"sha256: {given}; allowed: null, or the archive itself in root"))
    contents = {}
    for name, md5 in wanted:
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: no such file; allowed: the whole data set")
        Checksum("md5", md5).require(path, str(path))
        contents[name] = path.read_bytes()
    return _Files(str(folder), contents)


def _archived(archive: Path, base_folder: str, wanted: list[list[str]]) -> _Files:
    paths = {posixpath.join(base_folder, name): name for name, _ in wanted}
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                name = paths.get(posixpath.normpath(member.name))
                if name is None:
                    continue
                if not member.isreg() or member.size > LARGEST_MEMBER or name in contents:
                    raise UserError(
                        f"{archive}: member {member.name} is a link, given twice or {member.size} bytes large; "
                        f"allowed: one plain file of up to {LARGEST_MEMBER} bytes"
                    )
                file = tar.extractfile(member)
                content = b"" if file is None else file.read()
                if len(content) != member.size:
                    raise tarfile.ReadError(f"member {member.name} ends early")
                contents[name] = content
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{archive}: cannot be read as a tar archive ({reason}); allowed: a whole archive") from None
    return _Files(str(archive), contents)


def _class_names(files: _Files, file: str, key: str) -> tuple[str, ...]:
    names = _read(files, file).get(key)
    try:
        classes = tuple(map(text, names)) if isinstance(names, list) else ()
    except Refused:
        classes = ()
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise UserError(f"{files.path(file)}: {key}: {names!r:.60}; allowed: a list of two or more different names")
    if wrong := wrong_class_name(classes):
        raise UserError(f"{files.path(file)}: {key}: {wrong}")
    return classes


def _batch(files: _Files, file: str, label_key: str, num_classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batch = _read(files, file)
    pixels, given = batch.get("data"), batch.get(label_key)
    shape = f"{getattr(pixels, 'dtype', type(pixels).__name__)} {getattr(pixels, 'shape', '')}"
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (3 * SIDE * SIDE,):
        raise UserError(f"{files.path(file)}: data: {shape}; allowed: uint8 (N, {3 * SIDE * SIDE})")
    try:
        labels = np.asarray(given)
    except ValueError:
        labels = np.empty(0)
    if labels.shape != (len(pixels),) or labels.dtype.kind not in "iu" or not len(labels):
        raise UserError(f"{files.path(file)}: {label_key}: {given!r:.60}; allowed: {len(pixels)} whole numbers, from 1")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise UserError(
            f"{files.path(file)}: {label_key}: {labels.min()} to {labels.max()}; allowed: 0 to {num_classes - 1}"
        )
    return pixels, labels.astype(np.int64)


def _read(files: _Files, file: str) -> dict[str, Any]:
    try:
        return pickled_dict(files[file])
    except Refused as error:
        raise UserError(f"{files.path(file)}: {error}; allowed: a batch of the published format") from None

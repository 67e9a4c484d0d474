"""Images in files of the user's own, however they are listed: their parts, their groups, and their pixels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from tqdm import tqdm

from tailnas.data.dataset import Dataset, Origin, group_numbers
from tailnas.data.grouped_parts import grouped_parts
from tailnas.data.repeated import copies, count_repeated, image_digests
from tailnas.fetch.class_folders import first
from tailnas.fetch.held_out import held_out_part
from tailnas.fetch.image_file import Unreadable, read_image
from tailnas.fetch.settings import DataSet
from tailnas.fetch.spool import Spool
from tailnas.foundation.errors import UserError, short
from tailnas.foundation.seeding import numpy_generator
from tailnas.foundation.settings import Count, Section, Seed

LEAST_TRAINING = 2
"""Images of a class that the test part leaves, one for each half of a search."""


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from None
    return text


class TestShare(Section):
    """An uneven test part: a share of each class."""

    __test__ = False  # pytest takes the name for a test's

    fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="Share of each class's images, rounded; 2 images at least are left for training."
    )
    least: Annotated[int, Field(ge=0)] = Field(description="Images of each class at least.")

    def __str__(self) -> str:
        return f"{{fraction: {self.fraction:g}, least: {self.least}}}"


class FileSettings(DataSet):
    """What every kind of data in files of the user's own has."""

    test_per_class: Count | TestShare | None = Field(
        description="Images of each class in the test part: a number, or {fraction, least}. null where the data has a "
        "test part of its own, which is used whole, and with split.folds, which tests every image once."
    )
    group: Annotated[str, Field(min_length=1), AfterValidator(_expression)] | None = Field(
        description="Images that belong together, such as frames of one video, stay together in training or test part "
        "and in the halves and folds: those in whose file's path this regular expression matches the same text (of its "
        "first bracket, if it has one). null: each image by itself."
    )
    unreadable: Literal["refuse", "skip"] = Field(
        description="Files that are no whole images: refuse names ten and computes nothing; skip leaves them out and "
        "lists them in files.csv."
    )
    seed: Seed = Field(description="Chooses the test part, the same for every study seed.")


@dataclass(frozen=True)
class FileSet:
    """N image files of K classes.

    files: (N,) paths; names: (N,) what groups are read off and what tables call them; labels: int64 (N,); tested:
    bool (N,), None where the test part is still to be cut; groups: (N,) names, "" for an image by itself.
    """

    files: Sequence[Path]
    names: Sequence[str]
    labels: NDArray[np.int64]
    tested: NDArray[np.bool_] | None
    groups: Sequence[str]
    classes: tuple[str, ...]

    def only(self, rows: NDArray[np.int64]) -> FileSet:
        """The files `rows` (M,) of it."""
        files, names, groups = ([own[row] for row in rows.tolist()] for own in (self.files, self.names, self.groups))
        tested = None if self.tested is None else self.tested[rows]
        return FileSet(files, names, self.labels[rows], tested, groups, self.classes)


PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Usual names of the parts of a data set, in small letters."""

VAL_TESTS = "val is the test part, since there is no test"
VAL_TRAINS = "val joins train, since the search cuts its own half of the training images"


def grouped(names: Sequence[str], settings: FileSettings) -> list[str]:
    """The group of each name by `settings.group`, "" without one. Raises UserError for names that it does not match."""
    if settings.group is None:
        return [""] * len(names)
    found = [re.search(settings.group, name) for name in names]
    missed = [repr(name) for name, match in zip(names, found, strict=True) if match is None]
    if missed:
        raise UserError(
            f"data: {settings.name}: group: {short(settings.group)} is not found in {len(missed)} of {len(names)} "
            f"names: {first(missed)}; allowed: an expression that matches every file's path"
        )
    return [str(match[1] if match.re.groups else match[0]) for match in found if match is not None]


def tested_mask(files: FileSet, settings: FileSettings, kind: str) -> NDArray[np.bool_]:
    """bool (N,), the images of the test part. Raises UserError, one line, where there are too few."""
    key, given = f"data: {settings.name}: test_per_class", settings.test_per_class
    counts = np.bincount(files.labels, minlength=len(files.classes)).tolist()
    if files.tested is not None:
        if given is not None:
            raise UserError(f"{key}: {given}; allowed: null, since the data has a test part, which is used whole")
        return _checked(files.tested, files, settings)
    if given is None:
        return np.zeros(len(files.labels), np.bool_)
    wanted = [_wanted(given, count) for count in counts]
    _require_enough(counts, wanted, files.classes, key)
    if not any(files.groups):
        return held_out_part(files.labels, wanted, settings.seed, kind)
    numbers = group_numbers(files.groups)
    wanted = _with_groups_enough(wanted, numbers, files, given, settings)
    targets = np.array([np.subtract(counts, wanted), wanted])
    least = np.array([[LEAST_TRAINING] * len(wanted), np.sign(wanted)])
    generator = numpy_generator(settings.seed, "test part", kind, "groups")
    return _checked(grouped_parts(files.labels, numbers, targets, least, generator) == 1, files, settings)


def _wanted(given: int | TestShare, count: int) -> int:
    if isinstance(given, int):
        return given
    return max(given.least, min(round(given.fraction * count), count - LEAST_TRAINING))


def _require_enough(counts: list[int], wanted: list[int], classes: Sequence[str], key: str) -> None:
    """Raises UserError naming all classes that are too small, the true minimum and what they would allow."""
    small = [c for c, (count, tested) in enumerate(zip(counts, wanted, strict=True)) if count < tested + LEAST_TRAINING]
    if not small:
        return
    most, asked = max(0, min(counts) - LEAST_TRAINING), max(wanted[c] for c in small)
    raise UserError(
        f"{key}: {asked} and {LEAST_TRAINING} for training are {asked + LEAST_TRAINING} images of each class, but "
        f"{first([f'{classes[c]!r} has {counts[c]}' for c in small])}; allowed: up to {most} (with split.profile "
        "natural; other profiles need more images), {fraction: 0.2, least: 0}, which leaves tiny classes untested, or "
        "more images"
    )


def _with_groups_enough(
    wanted: list[int], numbers: NDArray[np.int64], files: FileSet, given: int | TestShare, settings: FileSettings
) -> list[int]:
    """`wanted`, 0 for a class whose groups suffice for training alone where that is allowed. Raises UserError."""
    needed = LEAST_TRAINING + 1
    groups = [len(np.unique(numbers[files.labels == c])) for c in range(len(wanted))]
    few = [c for c, (count, tested) in enumerate(zip(groups, wanted, strict=True)) if tested and count < needed]
    if few and (isinstance(given, int) or given.least):
        raise UserError(
            f"data: {settings.name}: group: {first([f'{files.classes[c]!r} has {groups[c]}' for c in few])} group(s); "
            f"allowed: {needed} in each class, one for the test part and one for each half of a search, or "
            "test_per_class with least 0"
        )
    return [0 if c in few else tested for c, tested in enumerate(wanted)]


def _checked(tested: NDArray[np.bool_], files: FileSet, settings: FileSettings) -> NDArray[np.bool_]:
    """`tested`, where no group lies in both parts and every class and part has images. Raises UserError."""
    key, classes = f"data: {settings.name}: ", files.classes
    names = np.asarray(files.groups, np.object_)
    both = set(names[tested]) & set(names[~tested])
    if straddling := sorted(both - {""}):
        raise UserError(
            f"{key}group: {first([repr(name) for name in straddling])} in both the training and the test part; "
            "allowed: each group in one part"
        )
    trained = np.bincount(files.labels[~tested], minlength=len(classes))
    if (trained < LEAST_TRAINING).any() or not tested.any():
        wrong = [f"{classes[c]!r} ({trained[c]})" for c in np.flatnonzero(trained < LEAST_TRAINING)]
        raise UserError(
            f"{key}{'group' if any(files.groups) else 'path'}: "
            f"{f'training images are left of {first(wrong)}' if wrong else 'no test image'}; "
            f"allowed: {LEAST_TRAINING} images of each class for training and some for the test part"
            + (", in whole groups" if any(files.groups) else "")
        )
    return tested


def counts_of(files: FileSet, settings: FileSettings, kind: str) -> tuple[list[int], list[int]]:
    """Images of each class in the training and in the test part. Raises UserError as `tested_mask` does."""
    tested = tested_mask(files, settings, kind)
    training, test = (np.bincount(files.labels[part], minlength=len(files.classes)) for part in (~tested, tested))
    return training.tolist(), test.tolist()


def shared_files(files: FileSet, other: FileSet) -> int:
    """How many files both name, whatever links say."""
    own, theirs = ({path.resolve() for path in some.files} for some in (files, other))
    return len(own & theirs)


def read_files(
    files: FileSet, settings: FileSettings, kind: str, image_size: int, channels: int, *, published: bool = False
) -> Dataset:
    """All images, training part first, with what `files.csv` says of them.

    published: what stands there twice is left so, as figures are compared with others'. Raises UserError naming files
    that are no whole images (unless they are to be skipped), or the same image in two classes or in both parts; copies
    within a class and a part are printed, as are files that were skipped.
    """
    skipped: list[tuple[str, str, str]] = []
    while True:
        tested = tested_mask(files, settings, kind)
        order = np.concatenate([np.flatnonzero(~tested), np.flatnonzero(tested)])
        chosen, training = files.only(order), int((~tested).sum())
        images, problems = _read(chosen.files, settings.name, image_size, channels)
        if not problems:
            break
        _require_whole(problems, chosen, settings)
        skipped += [(chosen.names[row], files.classes[chosen.labels[row]], why) for row, why in problems.items()]
        files = files.only(np.sort(np.delete(order, list(problems))))
    if skipped:
        named = first([f"{name!r} ({why})" for name, _, why in skipped])
        print(f"data: {settings.name}: warning: skipped {len(skipped)} file(s), listed in files.csv: {named}")
    if not published:
        _require_once(images, chosen, training, settings)
    return Dataset(
        images[:training],
        chosen.labels[:training],
        images[training:],
        chosen.labels[training:],
        files.classes,
        settings.name,
        kind,
        Origin(chosen.names, chosen.groups, skipped),
    )


def _read(files: Sequence[Path], name: str, image_size: int, channels: int) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """uint8 (N, channels, image_size, image_size), and why the files of some rows are unreadable."""
    shape, problems = (len(files), channels, image_size, image_size), {}
    images = Spool(shape)
    for row, path in enumerate(tqdm(files, desc=name, leave=False, disable=None)):
        try:
            images.append(read_image(path, image_size, channels, partial(_say, name, path)))
        except Unreadable as error:
            problems[row] = str(error)
            images.append(np.zeros(shape[1:], np.uint8))
    return images.array(), problems


def _say(name: str, path: Path, note: str) -> None:
    print(f"data: {name}: {str(path)!r}: {note}", flush=True)


def _require_whole(problems: dict[int, str], files: FileSet, settings: FileSettings) -> None:
    """Raises UserError unless unreadable files are to be skipped."""
    if settings.unreadable == "skip":
        return
    named = [f"{str(files.files[row])!r} ({problem})" for row, problem in problems.items()]
    raise UserError(
        f"data: {settings.name}: path: {len(named)} of {len(files.files)} files are no whole images: {first(named)}; "
        "allowed: images that Pillow reads, such as PNG, JPEG, WebP, TIFF (`python -m tailnas.inspect` lists all "
        "of a folder, `unreadable: skip` leaves them out)"
    )


def _require_once(images: NDArray[np.uint8], files: FileSet, training: int, settings: FileSettings) -> None:
    """Raises UserError for an image in two classes or in both parts; names copies within one."""
    key, digests = f"data: {settings.name}: path", image_digests(images)
    _, crossing = count_repeated(digests, files.labels, training)
    named = [" = ".join(repr(str(files.files[row])) for row in group) for group in copies(digests)]
    if crossing:
        wrong = [" = ".join(repr(str(files.files[row])) for row in group) for group in crossing]
        raise UserError(
            f"{key}: {len(wrong)} image(s) in two classes or in both the training and the test part: {first(wrong)}; "
            "allowed: each image in one class and one part (what differs in size or colour alone may be one image at "
            "data.image_size and data.channels)"
        )
    if named:
        print(f"{key}: warning: {len(named)} image(s) more than once in a class: {first(named)}", flush=True)

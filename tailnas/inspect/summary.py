"""What a folder of images holds, what is wrong with it, and the parameters that suit it."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from tailnas.fetch.file_set import VAL_TESTS, VAL_TRAINS

LEAST_TRAINING = 2
"""Training images that a class needs where the data keeps its own tail: one in each half of the search."""
MOST_TESTED = 50
SHARE_TESTED, LEAST_TESTED = 0.25, 5
"""Of classes that are too small for MOST_TESTED."""
SEQUENCE = 4
"""Nearly identical images from which on they are a sequence."""
SUGGESTED_SIDES = (16, 64)
NAMED_AT_MOST = 5


@dataclass(frozen=True)
class ClassSize:
    """Whole images of one class: for training, and in the part that is tested on, where there is one."""

    name: str
    training: int
    held_out: int


@dataclass(frozen=True)
class Summary:
    """files: as `read_files` gives them, with `same` and `near`, groups of duplicates (-1: in none)."""

    root: Path
    files: pd.DataFrame

    @property
    def whole(self) -> pd.DataFrame:
        return self.files[self.files["problem"] == ""]

    def classes(self) -> list[ClassSize]:
        """From the largest to the smallest."""
        held_out = self.held_out[self.files["problem"] == ""]
        tested, training = (Counter(self.whole["class"][own]) for own in (held_out, ~held_out))
        sizes = [ClassSize(name, training[name], tested[name]) for name in sorted(set(self.files["class"]))]
        return sorted(sizes, key=lambda size: (-size.training, size.name))

    @property
    def test_part(self) -> str:
        """The part that is tested on, as the folder source has it: test/, or else val/, or else "" for a new one."""
        return next((part for part in ("test", "val") if (self.files["part"] == part).any()), "")

    @property
    def held_out(self) -> pd.Series:
        """(N,) of the files, whether it is in the part that is tested on; val/ beside test/ is trained on."""
        return (self.files["part"] == self.test_part) & (self.test_part != "")

    @property
    def test_per_class(self) -> int | tuple[float, int] | None:
        """What to set: a number of images, a share of each class with a least number, None for a given test part."""
        if self.test_part:
            return None
        rarest = self.classes()[-1].training
        if rarest * SHARE_TESTED >= MOST_TESTED:
            return MOST_TESTED
        return SHARE_TESTED, max(0, min(LEAST_TESTED, rarest // 2, rarest - LEAST_TRAINING))

    def tested(self, size: ClassSize) -> int:
        """Test images of a class, in the given test part or in the one suggested."""
        if (setting := self.test_per_class) is None:
            return size.held_out
        if isinstance(setting, int):
            return setting
        return max(setting[1], min(round(setting[0] * size.training), size.training - LEAST_TRAINING))

    @property
    def imbalance_factor(self) -> float:
        """The largest class over the smallest, by training images."""
        sizes = self.classes()
        return sizes[0].training / max(1, sizes[-1].training)

    def findings(self) -> list[str]:
        """One line for each thing to know before training; empty where there is none."""
        lines = []
        broken = self.files[self.files["problem"] != ""]
        if len(broken):
            named = [f"{row.file!r} ({row.problem})" for row in broken.head(NAMED_AT_MOST).itertuples()]
            lines.append(f"{counted(len(broken), 'file')} no whole image: {listed(named, len(broken))}")
        sizes = self.classes()
        taken = 0 if self.test_part else 1
        small = [f"{s.name!r} ({s.training})" for s in sizes if s.training < LEAST_TRAINING + taken]
        if small:
            lines.append(
                f"{counted(len(small), 'class')} of fewer than {LEAST_TRAINING + taken} images to train "
                f"{'and test ' if taken else ''}on: {listed(small[:NAMED_AT_MOST], len(small))}; "
                "collect more, or leave them out"
            )
        missing = [repr(s.name) for s in sizes if not s.held_out]
        if self.test_part and missing:
            lines.append(f"{self.test_part}/ has no image of {listed(missing[:NAMED_AT_MOST], len(missing))}")
        if (self.files["part"] == "val").any():
            lines.append(VAL_TRAINS if self.test_part == "test" else VAL_TESTS)
        lines += self._duplicates("same", "identical to the pixel")
        lines += self._duplicates("near", "nearly identical")
        lines += self._sequences()
        stretched = int((self.whole[["width", "height"]].max(axis=1).to_numpy() > 2 * self._short_sides()).sum())
        if stretched:
            lines.append(
                f"{counted(stretched, 'image')} with one side over twice the other: all become squares; crop them"
            )
        return lines

    def _duplicates(self, column: str, what: str) -> list[str]:
        lines = []
        twice = self.files.assign(held_out=self.held_out)[self.files[column] >= 0]
        groups = twice.groupby(column)
        for scope, words, why in (
            ("held_out", "in training and in the test part", "tested on what was trained on"),
            ("class", "under several classes", "not all of their labels can be right"),
        ):
            several = groups[scope].nunique()
            chosen = several[several > 1].index
            if len(chosen):
                first = twice[twice[column] == chosen[0]]["file"].head(2).map(repr)
                lines.append(
                    f"{counted(len(chosen), 'group')} of images {what} {words}, such as {' and '.join(first)}: {why}"
                )
        if len(twice):
            copies = len(twice) - groups.ngroups
            lines.append(f"{counted(copies, 'image')} {what} with another one ({counted(groups.ngroups, 'group')})")
        return lines

    def _sequences(self) -> list[str]:
        sizes = self.files[self.files["near"] >= 0].groupby("near").size()
        long = sizes[sizes >= SEQUENCE]
        if long.empty:
            return []
        first = self.files[self.files["near"] == long.idxmax()]["file"].iloc[0]
        return [
            f"{counted(len(long), 'sequence')} of {SEQUENCE} or more nearly identical images "
            f"({long.sum():,} in all, the longest {long.max()}, from {first!r} on), such as frames of one scene: "
            "a random test part would hold frames of scenes trained on; have data.target.group tell scenes by their "
            "files' names, or give test/ scenes of its own"
        ]

    def _short_sides(self) -> NDArray[np.int64]:
        return self.whole[["width", "height"]].min(axis=1).to_numpy(np.int64)

    def suggestion(self) -> str:
        """A block of params.yaml, without what a study needs beside it."""
        sides = self._short_sides()
        least, most = SUGGESTED_SIDES
        size = int(np.clip(round(float(np.median(sides)) / 4) * 4, least, most)) if len(sides) else least
        channels = 1 if set(self.whole["mode"]) <= {"1", "L", "LA", "I", "I;16", "F"} else 3
        name = "".join(c if c.isalnum() or c in "-_" else "-" for c in self.root.resolve().name).strip("-_") or "mine"
        return (
            f"study:\n"
            f"  imbalance_factors: [natural]\n"
            f"data:\n"
            f"  image_size: {size}\n"
            f"  channels: {channels}\n"
            f"  watch: {{target: {quoted(os.fspath(self.root))}}}\n"
            f"  target: {{kind: folder, name: {name}, path: {quoted(os.fspath(self.root))}, "
            f"test_per_class: {self._setting()}, group: null, unreadable: {self._unreadable()}, seed: 0}}\n"
            f"split: {{profile: natural, class_order: given, n_max: null, folds: null}}"
        )

    def _setting(self) -> str:
        setting = self.test_per_class
        if isinstance(setting, tuple):
            return f"{{fraction: {setting[0]}, least: {setting[1]}}}"
        return "null" if setting is None else str(setting)

    def _unreadable(self) -> str:
        return "skip" if (self.files["problem"] != "").any() else "refuse"


def quoted(text: str) -> str:
    """`text` as a YAML value on one line that is read as text."""
    return "'" + text.replace("'", "''") + "'"


def counted(number: int, noun: str) -> str:
    """`number` with its noun, such as 1 class, 2 classes, 3,000 images."""
    return f"{number:,} {noun}" + ("" if number == 1 else "es" if noun.endswith("s") else "s")


def listed(names: list[str], of: int) -> str:
    """`names`, and how many of all `of` are not among them."""
    return ", ".join(names) + (f" and {of - len(names)} more" if of > len(names) else "")


def recall_half_width(tested: int) -> float:
    """Half of Wilson's 95 % interval of a recall of one half (or next to it) on `tested` images, 1 for none."""
    if not tested:
        return 1.0
    low, high = stats.binomtest(tested // 2, tested).proportion_ci(method="wilson")
    return float(high - low) / 2

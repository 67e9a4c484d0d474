"""Classify image files of any size and mode with a trained model.

Prints the most probable classes of each file. Files that are no whole images are named at the end, and the exit status
is then 1.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailnas.calibration.decisions import least_cost
from tailnas.fetch.class_folders import files_below
from tailnas.foundation.class_names import FORMULA
from tailnas.foundation.errors import UserError, plain
from tailnas.foundation.stage import main
from tailnas.predict.classifier import Classifier, load_model
from tailnas.predict.tables import read_costs, read_prior
from tailnas.space.device import prepare

ABSTAINED = "?"
"""Printed and written where no decision is made."""

Row = tuple[NDArray[np.float64], str]
"""An image's probabilities (K,) and "", or NaN and why it is unreadable."""


@dataclass(frozen=True)
class Decisions:
    """What is decided from an image's probabilities.

    names: of the decisions (D). costs: (K, D) of each where the class is k, or None: the most probable class. abstain:
    the least probability of that class at which a decision is made.
    """

    names: tuple[str, ...]
    costs: NDArray[np.float64] | None
    abstain: float

    def decide(self, probabilities: NDArray[np.float64]) -> str:
        """The decision for one image, probabilities (K,)."""
        if probabilities.max() < self.abstain:
            return ABSTAINED
        if self.costs is None:
            return self.names[int(probabilities.argmax())]
        return self.names[int(least_cost(probabilities[None], self.costs)[0])]


def image_files(paths: list[Path]) -> list[Path]:
    """`paths`, each folder replaced by all files below it, sorted. Raises UserError for what is not there."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(files_below(path, str(path)), key=os.fspath)
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"{path}: no such file or folder; allowed: image files, or folders of them")
    if not files:
        raise UserError(f"{', '.join(map(str, paths))}: no files; allowed: image files, or folders of them")
    return files


def chosen_prior(model: Classifier, chosen: str | None) -> NDArray[np.float64] | None:
    """The class frequencies (K,) that --prior names; None for the model's own, and for those to be estimated."""
    if chosen in (None, "em"):
        return None
    if chosen == "uniform":
        return np.ones(len(model.classes))
    if chosen != "training":
        return read_prior(Path(str(chosen)), model.classes)
    if model.class_counts is None:
        raise UserError("--prior: 'training', but the model does not know them; allowed: uniform, em, or a file")
    return np.asarray(model.class_counts, np.float64)


def estimated(model: Classifier, rows: list[Row]) -> NDArray[np.float64] | None:
    """The class frequencies among all images that were read, which are printed; None where there is none."""
    known = [probabilities for probabilities, problem in rows if not problem]
    if not known:
        return None
    prior = model.estimated_prior(np.stack(known))
    found = ", ".join(f"{name} {share:.3f}" for name, share in zip(model.classes, prior, strict=True))
    print(f"estimated class frequencies: {found}", file=sys.stderr)
    return prior


def line(file: Path, probabilities: NDArray[np.float64], classes: tuple[str, ...], top: int, decided: str) -> str:
    """A file, what was `decided` unless that is "", and its `top` most probable classes."""
    best = np.argsort(-probabilities, kind="stable")[:top]
    words = [
        plain(str(file)),
        *([f"{decided}:"] if decided else []),
        *(f"{classes[k]} {probabilities[k]:.3f}" for k in best),
    ]
    return "  ".join(words)


def classify(
    model: Classifier,
    files: list[Path],
    rows: Iterable[Row],
    prior: NDArray[np.float64] | None,
    decisions: Decisions | None,
    top: int,
    table: Path | None,
) -> int:
    """Print each prediction and write them to `table`; returns the number of files that are no whole images.

    prior: class frequencies (K,) instead of the model's own. Columns of the table: file, prediction, probability,
    decision where there are any, set and set_size (at the model's own prior) where it has sets, problem, and one for
    each class.
    """
    columns: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64]], list[str]]] = {}
    if decisions is not None:
        columns["decision"] = lambda own, adjusted: [decisions.decide(adjusted)]
    if model.thresholds is not None:
        columns["set set_size"] = lambda own, adjusted: _set(model, own)
    header = [name for names in columns for name in names.split()]
    broken = []

    def lines() -> Iterator[list[str]]:
        for file, (own, problem) in zip(files, rows, strict=True):
            if problem:
                broken.append(plain(f"{file}: {problem}"))
                yield [_named(file), "", "", *[""] * len(header), problem, *[""] * len(model.classes)]
                continue
            probabilities = own if prior is None else model.under_prior(own[None], prior)[0]
            further = [value for column in columns.values() for value in column(own, probabilities)]
            print(line(file, probabilities, model.classes, top, further[0] if decisions is not None else ""))
            best = int(probabilities.argmax())
            numbers = [f"{value:.6g}" for value in (probabilities[best], *probabilities)]
            yield [_named(file), model.classes[best], numbers[0], *further, "", *numbers[1:]]

    if table is None:
        for _ in lines():
            pass
    else:
        temporary = table.with_name(f".{table.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                writer.writerow(["file", "prediction", "probability", *header, "problem", *model.classes])
                writer.writerows(lines())
            temporary.replace(table)
        finally:
            temporary.unlink(missing_ok=True)
    for reason in broken:
        print(reason, file=sys.stderr)
    return len(broken)


def _named(file: Path) -> str:
    """The file in a table, where no spreadsheet takes its name for a formula."""
    return f"./{file}" if str(file).startswith(FORMULA) else str(file)


def _set(model: Classifier, probabilities: NDArray[np.float64]) -> list[str]:
    inside = model.sets(probabilities[None])[0]
    names = [name for name, within in zip(model.classes, inside, strict=True) if within]
    return ["; ".join(names), str(len(names))]


def run() -> None:
    parser = argparse.ArgumentParser(prog="python -m tailnas.predict", description=__doc__)
    parser.add_argument("model", type=Path, help="model.safetensors of a retrain, adapt or calibrate stage")
    parser.add_argument("images", type=Path, nargs="+", help="image files, or folders, whose files count at any depth")
    parser.add_argument("--top", type=int, default=1, help="classes to print for each file (1)")
    parser.add_argument("--csv", type=Path, help="write all probabilities to this file as well")
    parser.add_argument(
        "--prior",
        metavar="FREQUENCIES",
        help="how often classes occur among these images: uniform, training (as in training), em (estimated from the "
        "images, which takes many of them), or a CSV file class,frequency; without it, as the model assumes",
    )
    parser.add_argument(
        "--cost",
        type=Path,
        metavar="FILE",
        help="a CSV file class,DECISION,... of what each decision costs where an image is of a class; the cheapest is "
        "decided",
    )
    parser.add_argument(
        "--abstain",
        type=float,
        metavar="P",
        help=f"decide nothing ({ABSTAINED}) about an image whose most probable class is less probable than this",
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto takes a GPU if there is one"
    )
    args = parser.parse_args()
    if args.top < 1:
        raise UserError(f"--top: {args.top}; allowed: 1 or more")
    if args.abstain is not None and not 0 <= args.abstain <= 1:
        raise UserError(f"--abstain: {args.abstain}; allowed: a probability, 0 to 1")
    model, files = load_model(args.model), image_files(args.images)
    if args.csv is not None and args.csv.exists():
        tables = [Path(given) for given in (args.cost, args.prior) if given is not None]
        read = [args.model, *tables, *(files if args.csv.suffix != ".csv" else ())]  # a table of before is no image
        if any(file.exists() and file.samefile(args.csv) for file in read):
            raise UserError(f"--csv: {args.csv} is one of the files that are read; allowed: another file")
    prior, decisions = chosen_prior(model, args.prior), None
    if args.cost is not None or args.abstain is not None:
        names, costs = (model.classes, None) if args.cost is None else read_costs(args.cost, model.classes)
        decisions = Decisions(names, costs, args.abstain or 0.0)
    rows: Iterable[Row] = model.to(prepare(args.device, os.cpu_count() or 1)).predictions(files)
    if args.prior == "em":
        rows = list(rows)
        prior = estimated(model, rows)
    if broken := classify(model, files, rows, prior, decisions, args.top, args.csv):
        raise UserError(f"{broken} of {len(files)} files are no whole images; allowed: images that Pillow reads")


def console() -> None:
    """The command `tailnas-predict`."""
    main(run)


if __name__ == "__main__":
    main(run)

"""How many more images of a class to collect: recall against images, from nested subsets of a study's own data.

    python -m benchmarks.collection presets/collection.yaml --output collection
    python -m benchmarks.collection params.yaml --genotype results/runs/bbn_hls-30-0/derive --output mine --add 200

A genotype, that of a search's `derive` or DARTS' published one, is retrained, and its head adapted, on SUBSETS subsets
of the split of each seed. In each, every class keeps an eighth, a quarter, a half or all of its images, the first of
one order of its own, and another part than in the subset before, so that a class's own images and those of the others
vary apart. `points.csv` gets what each network recognises of each class's test images, `plan.csv` the recall to expect
of every class with more images, `plan.png` the curves. Every finished subset is kept; started again, the command goes
on after the last one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from benchmarks.learning_curve import Curve, fit_curve
from benchmarks.output import claim
from benchmarks.target import Target
from tailnas.adapt.head_adaptation import adapt, halves_chooser
from tailnas.data.split_file import HALVES
from tailnas.evaluate.intervals import wilson
from tailnas.evaluate.measurement import predict
from tailnas.foundation.errors import UserError
from tailnas.foundation.seeding import numpy_generator, retraining_seed
from tailnas.genotype.found import GENOTYPE_FILE, read_genotype, write_genotype
from tailnas.genotype.genotype import DARTS_V2, Genotype
from tailnas.report.svg import report_style
from tailnas.retrain.retraining import input_normalisation, retrain
from tailnas.space.device import prepare
from tailnas.training.loop import InnerLoop
from tailnas.validate.parameters import Params
from tailnas.validate.presets import load_preset

PARTS = (0.125, 0.25, 0.5, 1.0)
SUBSETS = 8
"""Of each seed; the last has all images."""
LEAST = 2
"""Images that a class keeps in each half."""


def kept_parts(classes: int, seed: int) -> NDArray[np.float64]:
    """(SUBSETS, K): the part of each class's images that a subset has.

    Each class goes through the parts in turn, in every round from a place of its own that the seed draws; the last
    subset is whole.
    """
    generator = numpy_generator(seed, "collection", "parts")
    starts = [generator.permutation(classes) for _ in range(-(-SUBSETS // len(PARTS)))]
    table = [[PARTS[(place + turn) % len(PARTS)] for place in start] for start in starts for turn in range(len(PARTS))]
    return np.array([*table[: SUBSETS - 1], [1.0] * classes])


def subset(target: Target, seed: int, parts: NDArray[np.float64]) -> dict[str, NDArray[np.int64]]:
    """Training images of each half: of each class the first `parts` of an order that the seed draws, at least LEAST."""
    split, labels = target.split(seed), target.data.train_labels
    rows: dict[str, NDArray[np.int64]] = {}
    for half in HALVES:
        indices, kept = np.asarray(split.half(half)), []
        for label in range(target.classes):
            own = numpy_generator(seed, "collection", half, label).permutation(indices[labels[indices] == label])
            kept.append(own[: max(LEAST, round(parts[label] * len(own)))])
        rows[half] = np.sort(np.concatenate(kept))
    return rows


def trained_on(params: Params, target: Target, genotype: Genotype, seed: int, number: int) -> list[dict[str, int]]:
    """What the network trained on subset `number` of a seed recognises: one row per class."""
    halves = subset(target, seed, kept_parts(target.classes, seed)[number])
    rows = np.sort(np.concatenate([*halves.values()]))
    data, loop = target.images(rows), InnerLoop("retrain", lambda: None)
    normalisation = input_normalisation(genotype, data.images)
    own = retraining_seed(seed, number)
    network, _ = retrain(params.retrain, genotype, data, normalisation, target.classes, own, loop)
    images = [target.images(halves[half]) for half in HALVES]
    chooser = halves_chooser(params.retrain, network, images[0], images[1], own, loop)
    adapt(params.adapt, network, data, own, InnerLoop("adapt", lambda: None), chooser)
    predicted = predict(network, target.data.test_images, params.evaluate.batch_size).argmax(axis=1)
    truth = target.data.test_labels
    counts = np.bincount(target.data.train_labels[rows], minlength=target.classes)
    return [
        {
            "seed": seed,
            "subset": number,
            "class": label,
            "images": int(counts[label]),
            "others": int(counts.sum() - counts[label]),
            "hits": int(((predicted == label) & (truth == label)).sum()),
            "tested": int((truth == label).sum()),
        }
        for label in range(target.classes)
    ]


def one_genotype(folder: Path, genotype: Genotype) -> None:
    """Note in `folder` of which genotype its points are. Raises UserError where they are of another."""
    file = folder / GENOTYPE_FILE
    if not file.exists():
        write_genotype(folder, genotype)
    elif read_genotype(file) != genotype:
        raise UserError(f"{file}: another genotype; allowed: the one it was begun with, or another folder for --output")


def fill(params: Params, target: Target, genotype: Genotype, folder: Path) -> pd.DataFrame:
    """Compute the subsets that points.csv in `folder` does not have yet; returns all."""
    file = folder / "points.csv"
    points = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=["seed", "subset"])
    done = set(zip(points["seed"], points["subset"], strict=True))
    for seed in params.study.seeds:
        for number in range(SUBSETS):
            if (seed, number) not in done:
                rows = pd.DataFrame(trained_on(params, target, genotype, seed, number))
                points = pd.concat([points, rows], ignore_index=True) if done else rows
                done.add((seed, number))
                temporary = file.with_suffix(".tmp")
                points.to_csv(temporary, index=False, lineterminator="\n")
                temporary.replace(file)
                recall = (rows["hits"] / rows["tested"]).mean()
                print(
                    f"seed {seed}, subset {number + 1} of {SUBSETS}: {rows['images'].sum()} images, {recall:.3f}",
                    flush=True,
                )
    return points


def curve_of(points: pd.DataFrame, classes: int) -> Curve:
    """The curve through all points. Raises UserError where they are too few."""
    labels = points["class"].astype(int).tolist()
    try:
        return fit_curve(labels, points["images"], points["others"], points["hits"], points["tested"], classes)
    except ValueError as error:
        raise UserError(f"study.seeds: {error}; allowed: as many seeds as give more points") from None


def plan(curve: Curve, points: pd.DataFrame, names: Sequence[str], more: Sequence[int]) -> pd.DataFrame:
    """Rows of class, its images now, how many are added, and the recall to expect with its interval; rarest first."""
    whole = points[points["subset"] == SUBSETS - 1]
    now = whole.groupby("class")[["images", "others"]].mean()
    rows = []
    for label in now.sort_values("images").index:
        for added in (0, *more):
            images, others = now.loc[label, "images"] + added, now.loc[label, "others"]
            found = curve.expected(int(label), images, others)
            ends = {"recall": found.recall, "low": found.low, "high": found.high}
            rows.append({"class": names[int(label)], "images": round(now.loc[label, "images"]), "added": added, **ends})
    return pd.DataFrame(rows)


def sentences(table: pd.DataFrame) -> list[str]:
    """`200 more images of class c: expected recall 0.61 [0.48, 0.72]; with its 9 images 0.43 [0.30, 0.57]`."""
    lines = []
    for _, own in table.groupby("class", sort=False):
        now = own.iloc[0]
        lines += [
            f"{row.added} more images of class {row['class']}: expected recall {_with_interval(row)}; "
            f"with its {now.images} images {_with_interval(now)}"
            for _, row in own.iloc[1:].iterrows()
        ]
    return lines


def _with_interval(row: pd.Series) -> str:
    return f"{row.recall:.2f} [{row.low:.2f}, {row.high:.2f}]"


def figure(curve: Curve, points: pd.DataFrame, names: Sequence[str], most: int) -> Figure:
    """A panel for each of the twelve rarest classes: recalls with Wilson's intervals, the curve with its own."""
    whole = points[points["subset"] == SUBSETS - 1].groupby("class")[["images", "others"]].mean()
    shown = whole.sort_values("images").index[:12]
    drawn = Figure(figsize=(11.4, 0.6 + 2.3 * -(-len(shown) // 4)))
    grid = drawn.subplots(-(-len(shown) // 4), 4, sharey=True, squeeze=False).ravel()
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    for axes, label in zip(grid, shown, strict=False):
        own = points[points["class"] == label]
        recall = own["hits"] / own["tested"]
        low, high = wilson(own["hits"], own["tested"])
        axes.vlines(own["images"], low, high, color="#9aa5b1", linewidth=0.9)
        axes.plot(own["images"], recall, "o", color="#5b6773", markersize=3.5)
        x = np.geomspace(max(1, own["images"].min()), whole.loc[label, "images"] + most, 40)
        found = [curve.expected(int(label), value, whole.loc[label, "others"]) for value in x]
        axes.plot(x, [one.recall for one in found], color="#d55e00")
        axes.fill_between(
            x, [one.low for one in found], [one.high for one in found], color="#d55e00", alpha=0.18, linewidth=0
        )
        axes.axvline(whole.loc[label, "images"], color="#9aa5b1", linewidth=0.8, linestyle=(0, (3, 3)))
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(ylim=(-0.03, 1.03), title=str(names[int(label)]), xlabel="training images of the class")
    grid[0].set_ylabel("recall, adapted network")
    return drawn


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "params", type=Path, help="params.yaml or a preset; its first imbalance factor counts, all seeds"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for tables and figure")
    parser.add_argument("--genotype", type=Path, help="folder `derive` of a search; without it DARTS' published cell")
    parser.add_argument("--add", type=int, nargs="+", default=[20, 200], metavar="N", help="images to add to a class")
    args = parser.parse_args(arguments)
    try:
        if min(args.add) < 1:
            raise UserError(f"--add: {min(args.add)}; allowed: integers from 1")
        params = load_preset(args.params)
        device = prepare(params.runtime.device, params.runtime.threads, params.retrain.training.precision)
        genotype = read_genotype(args.genotype / GENOTYPE_FILE) if args.genotype else DARTS_V2
        target = Target.load(params, device)
        claim(args.output, params)
        one_genotype(args.output, genotype)
        points = fill(params, target, genotype, args.output)
        curve = curve_of(points, target.classes)
    except UserError as error:
        sys.exit(str(error))
    table = plan(curve, points, target.data.classes, sorted(args.add))
    table.to_csv(args.output / "plan.csv", index=False, lineterminator="\n")
    with report_style():
        figure(curve, points, target.data.classes, max(args.add)).savefig(args.output / "plan.png", dpi=130)
    print("\n".join(sentences(table)))
    print(f"with twice its images a class's error is {2**-curve.exponent:.2f} times what it was, while it is small")


if __name__ == "__main__":
    main()

"""A results tree as the pipeline would leave it, with plausible numbers drawn from a seed."""

import csv
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from tailnas.data.dataset import Dataset, Part, save
from tailnas.evaluate.calibration import calibration
from tailnas.evaluate.examples import choose_examples, write_examples
from tailnas.evaluate.metrics import confusion_counts, evaluate_predictions, interval_metrics, shot_groups
from tailnas.foundation.seeding import numpy_generator
from tailnas.foundation.settings import Study
from tailnas.genotype.found import FOUND, write_alphas, write_genotype
from tailnas.genotype.genotype import DARTS_V1, derive_genotype
from tailnas.genotype.primitives import EDGES, PRIMITIVES
from tailnas.report.page import build_report
from tailnas.report.runs import read_results
from tailnas.split.long_tail import class_counts

COUNTS = {30: (124, 85, 58, 40, 27, 18, 12, 8, 6, 4), 10: (124, 96, 74, 57, 44, 34, 26, 20, 16, 12)}
DIGITS = tuple("0123456789")
TEST_PER_CLASS = 50
EPOCHS = 12
COMPONENTS = {"darts": ("normal", "reduce"), "bbn_hls": ("normal", "reduce", "instance_head", "class_head")}


@dataclass
class Calibrated:
    """A network's word on its probabilities."""

    temperature: float
    prior: tuple
    class_thresholds: tuple | None
    miss: float | None


@dataclass(frozen=True)
class Tree:
    """A study's files below `root`, and the section that they are of."""

    root: Path
    study: Study

    def search(self, method, factor=30, seed=0):
        return self.root / "results/runs" / f"{method}-{factor}-{seed}"

    def run(self, method, factor=30, seed=0, retrain_seed=0):
        return self.root / "results/runs" / f"{method}-{factor}-{seed}-{retrain_seed}"

    def read(self, study=None):
        return read_results(self.root / "results", self.root / "data/splits", study or self.study)

    def build(self, name="report", study=None):
        """The content of each file of the report, written below `root` as `name`."""
        output = self.root / name
        build_report(
            self.root / "results", self.root / "data/raw/digits", self.root / "data/splits", study or self.study, output
        )
        return {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()}


@pytest.fixture
def make_tree(tmp_path):
    """`make_tree(methods=..., seeds=...)` writes a study's files; `still` methods' alphas hardly move."""

    def make(
        methods=("darts", "bbn_hls", "random"),
        imbalance_factors=(30,),
        seeds=(0,),
        retrain_seeds=(0,),
        classes=DIGITS,
        still=(),
    ):
        study = Study(
            methods=[*methods],
            imbalance_factors=[*imbalance_factors],
            seeds=[*seeds],
            retrain_seeds=[*retrain_seeds],
        )
        tree = Tree(tmp_path, study)
        write_study(tree, classes, still)
        return tree

    return make


@pytest.fixture
def make_results(make_tree):
    return lambda **changes: make_tree(**changes).read()


def write_study(tree, classes, still):
    write_raw(tree.root / "data/raw/digits", classes)
    for seed in tree.study.seeds:
        write_rows(
            tree.root / f"results/pretrain/seed{seed}/history.csv",
            [
                {
                    "epoch": epoch + 1,
                    "learning_rate": 0.0125 * (1 + np.cos(np.pi * epoch / 8)),
                    "loss": 3.1 * np.exp(-epoch / 3) + 0.4,
                    "balanced_accuracy": 0.86 * (1 - np.exp(-(epoch + 1) / 2.5)),
                    "guessing": 0.06,
                }
                for epoch in range(8)
            ],
        )
        cost = {"mixture": 7_000_000_000, "single": None}
        (tree.root / f"results/pretrain/seed{seed}/cost.json").write_text(json.dumps(cost))
        for factor in tree.study.imbalance_factors:
            order = numpy_generator(seed, "classes", factor).permutation(len(classes))
            counts = [split_sizes(factor, len(classes))[rank] for rank in np.argsort(order)]
            rows = [
                {"class": c, "name": name, "total": n, "weight": (n + 1) // 2, "architecture": n // 2}
                for c, (name, n) in enumerate(zip(classes, counts, strict=True))
            ]
            write_rows(tree.root / f"data/splits/if{factor}-seed{seed}/counts.csv", rows)
            for method in tree.study.methods:
                search, draw = tree.search(method, factor, seed), numpy_generator(seed, "run", method, factor)
                genotype = write_search(search / "search", method, draw, method in still)
                (search / "derive").mkdir()
                write_genotype(search / "derive", genotype)
                for retrain_seed in tree.study.retrain_seeds:
                    run = tree.run(method, factor, seed, retrain_seed)
                    write_training(run, draw)
                    write_evaluation(run / "evaluate", draw, classes, counts)


def split_sizes(factor, num_classes):
    """Training images by rank, largest class first."""
    if factor == "natural":
        return (590, *[5] * (num_classes - 1))
    return COUNTS[factor] if num_classes == 10 else tuple(class_counts(300, num_classes, factor))


def write_raw(folder, classes):
    """The digits, enlarged; another number of classes gets colour noise."""
    if len(classes) == 10:
        digits = load_digits()
        images = np.kron(digits.images * 255 / 16, np.ones((2, 2))).round().astype(np.uint8)[:, None]
        labels = digits.target.astype(np.int64)
    else:
        labels = np.repeat(np.arange(len(classes)), TEST_PER_CLASS + 2)
        images = numpy_generator(0, "noise").integers(0, 256, (len(labels), 3, 16, 16), dtype=np.uint8)
    test = np.concatenate([np.flatnonzero(labels == c)[-TEST_PER_CLASS:] for c in range(len(classes))])
    train = np.setdiff1d(np.arange(len(images)), test)
    save(Dataset(images[train], labels[train], images[test], labels[test], classes, "digits", "digits"), folder)


def write_search(folder, method, draw, still):
    (folder / FOUND).mkdir(parents=True)
    if method not in COMPONENTS:
        genotype = replace(DARTS_V1, normal=DARTS_V1.reduce[:4] + DARTS_V1.normal[4:])
        write_rows(folder / "history.csv", [{"epoch": 0, "genotype": genotype.to_line()}])
        write_genotype(folder / FOUND, genotype)
        (folder / "cost.json").write_text(
            json.dumps({"optimiser_steps": 0, "images": 0, "multiply_adds": 0, "pretrained": None})
        )
        return genotype
    alphas = {name: 1e-3 * draw.normal(size=(1, EDGES, len(PRIMITIVES))) for name in COMPONENTS[method]}
    rows = []
    for epoch in range(1, EPOCHS + 1):
        t = (epoch - 0.5) / EPOCHS
        mixing = 1 - t
        rates = {"backbone": mixing, "instance_head": mixing, "class_head": 1 - mixing}
        for name, values in alphas.items():
            rate = rates.get(name, rates["backbone"]) if method == "bbn_hls" else 1
            step = (0.004 if still else 0.16) * rate * draw.normal(1.0, 0.4, size=(EDGES, len(PRIMITIVES)))
            drift = step * draw.permuted(np.linspace(-1, 1, 8)) if epoch == 1 else step * np.sign(values[-1])
            alphas[name] = np.concatenate([values, (values[-1] + drift)[None]])
        tensors = {name: torch.from_numpy(values[-1]) for name, values in alphas.items()}
        weights = {name: value.softmax(-1) for name, value in tensors.items()}
        moved = [(weights[n] - torch.from_numpy(alphas[n][0]).softmax(-1)).abs().mean() for n in weights]
        genotype = derive_genotype(tensors)
        chosen = [primitive for edges in genotype.components().values() for primitive, _ in edges]
        loss = 2.2 * np.exp(-epoch / 5) + 0.3 + 0.03 * draw.normal()
        row = {"epoch": epoch, "lr_weights": 0.0125 * (1 + np.cos(np.pi * t)), "lr_backbone": 0.01, "loss": loss}
        if method == "bbn_hls":
            row |= {"mixing_ratio": mixing, **{f"lr_{name}": 0.01 * rate for name, rate in rates.items()}}
            row |= {"instance_loss": loss * 0.8, "class_loss": loss * 1.3}
        row |= {
            "architecture_loss": loss * 1.1,
            "balanced_accuracy": 0.8 * (1 - np.exp(-epoch / 4)) + 0.02 * draw.normal(),
            **{f"entropy_{name}": float(torch.special.entr(w).sum(-1).mean()) for name, w in weights.items()},
            "skip_share": chosen.count("skip_connect") / len(chosen),
            "softmax_movement": float(torch.stack(moved).mean()),
            "genotype": genotype.to_line(),
        }
        rows.append(row)
    write_rows(folder / "history.csv", rows)
    if method == "bbn_hls":
        sweep = [{"mixing_ratio": step / 20, "balanced_accuracy": 0.7 - (step / 20 - 0.4) ** 2} for step in range(21)]
        write_rows(folder / "mixing_ratio.csv", sweep)
    write_alphas(folder / FOUND, {name: values.astype(np.float32) for name, values in alphas.items()})
    cost = {"optimiser_steps": 24 * EPOCHS, "images": 48 * 24 * EPOCHS, "multiply_adds": 2_310_144}
    cost["pretrained"] = "mixture"
    (folder / "cost.json").write_text(json.dumps(cost))
    return genotype


def write_training(run, draw):
    retrain, adapt = [], []
    for epoch in range(1, 21):
        loss = 2.1 * np.exp(-epoch / 6) + 0.05 + 0.02 * abs(draw.normal())
        rate = 0.0125 * (1 + np.cos(np.pi * epoch / 20))
        retrain.append({"epoch": epoch, "learning_rate": rate, "loss": loss, "accuracy": 1 - loss / 2.6})
    for epoch in range(1, 9):
        loss = 0.9 * np.exp(-epoch / 3) + 0.3 + 0.01 * draw.normal()
        adapt.append({"epoch": epoch, "learning_rate": 0.05, "loss": loss, "balanced_accuracy": 1 - loss / 5})
    write_rows(run / "retrain/history.csv", retrain)
    write_rows(run / "adapt/history.csv", adapt)


def write_evaluation(folder, draw, classes, counts):
    num_classes = len(classes)
    labels = np.repeat(np.arange(num_classes), TEST_PER_CLASS)
    size = np.log(np.asarray(counts, float))
    bias = {"retrained": 0.9 * (size - size.mean()), "adapted": 0.25 * (size - size.mean())}
    scores = 2.6 * np.eye(num_classes)[labels] + draw.normal(size=(len(labels), num_classes))
    metrics, intervals, confusion, right, given = {}, {}, [], {}, {}
    for model, shift in bias.items():
        logits = 2 * (scores + shift)
        given[model] = probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        metrics[model] = evaluate_predictions(probabilities, labels, counts, bins=15)
        right[model] = probabilities.argmax(axis=1) == labels
        matrix = confusion_counts(labels, probabilities.argmax(axis=1), num_classes)
        intervals[model] = interval_metrics(matrix, counts)
        confusion += [
            {"model": model, "true": true, "predicted": predicted, "count": n}
            for (true, predicted), n in np.ndenumerate(matrix)
        ]
    calibrated = Calibrated(1.3, (1 / num_classes,) * num_classes, tuple(0.05 * (n >= 9) for n in counts), 0.1)
    metrics["calibration"] = calibration(calibrated, probabilities, labels, counts, shot_groups(counts), bins=15)
    metrics |= {
        "intervals": intervals,
        "groups": asdict(shot_groups(counts)),
        "parameters": int(18_000 + draw.integers(0, 4_000)),
        "multiply_adds": int(900_000 + draw.integers(0, 150_000)),
        "test_images": len(labels),
    }
    folder.mkdir()
    pictures = draw.integers(0, 256, (len(labels), 1, 16, 16), dtype=np.uint8)
    write_examples(folder, choose_examples(given, Part(pictures, labels, classes), counts))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    write_rows(folder / "confusion.csv", confusion)
    gained, lost = (
        np.bincount(labels[right[now] & ~right[before]], minlength=num_classes).tolist()
        for before, now in (("retrained", "adapted"), ("adapted", "retrained"))
    )
    rows = zip(classes, gained, lost, strict=True)
    write_rows(folder / "per_class.csv", [{"name": name, "gained": up, "lost": down} for name, up, down in rows])


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)

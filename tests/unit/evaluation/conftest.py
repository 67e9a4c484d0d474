"""A results tree as the pipeline would leave it, with plausible numbers drawn from a seed."""

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from tailnas.data.dataset import Dataset, save
from tailnas.data.splits import class_counts
from tailnas.evaluation.drawing import genotype_svg
from tailnas.evaluation.metrics import evaluate_predictions, per_class_recall, shot_groups
from tailnas.seeding import numpy_generator
from tailnas.space.genotype import DARTS_V1, derive_genotype
from tailnas.space.primitives import EDGES, PRIMITIVES

COUNTS = {30: (124, 85, 58, 40, 27, 18, 12, 8, 6, 4), 10: (124, 96, 74, 57, 44, 34, 26, 20, 16, 12)}
TEST_PER_CLASS = 50
EPOCHS = 12
COMPONENTS = {"darts": ("normal", "reduce"), "bbn_hls": ("normal", "reduce", "instance_head", "class_head")}


@dataclass(frozen=True)
class FakeStudy:
    """What the report reads of the study section, and where its files lie."""

    root: Path
    methods: tuple[str, ...] = ("darts", "bbn_hls", "random")
    imbalance_factors: tuple[int, ...] = (30,)
    seeds: tuple[int, ...] = (0,)
    still: tuple[str, ...] = ()
    """Methods whose alphas hardly move."""

    @property
    def arguments(self):
        """The arguments of `build_report` before `output`."""
        return self.root / "results", self.root / "data/raw/digits", self.root / "data/splits", self

    def run(self, method, factor=30, seed=0):
        return self.root / "results/runs" / f"{method}-if{factor}-seed{seed}"


@pytest.fixture
def make_study(tmp_path):
    """`make_study(methods=..., seeds=...)` writes a study's files and returns it."""

    def make(classes=tuple("0123456789"), **changes):
        study = replace(FakeStudy(tmp_path), **changes)
        write_study(study, classes)
        return study

    return make


def write_study(study, classes=tuple("0123456789")):
    write_raw(study.root / "data/raw/digits", classes)
    for seed in study.seeds:
        write_history(
            study.root / f"results/pretrain/seed{seed}",
            [
                {
                    "epoch": epoch + 1,
                    "learning_rate": 0.0125 * (1 + np.cos(np.pi * epoch / 8)),
                    "loss": 3.1 * np.exp(-epoch / 3) + 0.4,
                    "balanced_accuracy": 0.86 * (1 - np.exp(-(epoch + 1) / 2.5)),
                }
                for epoch in range(8)
            ],
        )
        for factor in study.imbalance_factors:
            order = numpy_generator(seed, "classes", factor).permutation(len(classes))
            counts = [split_sizes(factor, len(classes))[rank] for rank in np.argsort(order)]
            write_counts(study.root / f"data/splits/if{factor}-seed{seed}", classes, counts)
            for method in study.methods:
                write_run(study, method, factor, seed, classes, counts)


def split_sizes(factor, num_classes):
    """Training images by rank, largest class first."""
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


def write_counts(folder, classes, counts):
    rows = [
        {"class": c, "name": name, "total": n, "weights": (n + 1) // 2, "architecture": n // 2}
        for c, (name, n) in enumerate(zip(classes, counts, strict=True))
    ]
    write_rows(folder / "counts.csv", rows)


def write_run(study, method, factor, seed, classes, counts):
    run, draw = study.run(method, factor, seed), numpy_generator(seed, "run", method, factor)
    genotype = write_search(run / "search", method, draw, still=method in study.still)
    (run / "derive").mkdir(parents=True)
    (run / "derive/genotype.json").write_text(genotype.to_json(), encoding="utf-8")
    (run / "derive/genotype.svg").write_text(genotype_svg(genotype), encoding="utf-8")
    write_training(run, draw)
    write_evaluation(run / "evaluate", draw, classes, counts)


def write_search(folder, method, draw, still):
    folder.mkdir(parents=True)
    if method not in COMPONENTS:
        genotype = replace(DARTS_V1, normal=DARTS_V1.reduce[:4] + DARTS_V1.normal[4:])
        write_history(folder, [{"epoch": 0, "genotype": genotype.to_json()}])
        np.savez(folder / "alphas.npz", normal=np.zeros((1, EDGES, 8), np.float32))
        (folder / "cost.json").write_text(json.dumps({"optimiser_steps": 0, "images": 0, "multiply_adds": 0}))
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
            "genotype": genotype.to_json(),
        }
        rows.append(row)
    write_history(folder, rows)
    if method == "bbn_hls":
        sweep = [{"mixing_ratio": step / 20, "balanced_accuracy": 0.7 - (step / 20 - 0.4) ** 2} for step in range(21)]
        write_rows(folder / "mixing_ratio.csv", sweep)
    np.savez(folder / "alphas.npz", **{name: values.astype(np.float32) for name, values in alphas.items()})
    cost = {"optimiser_steps": 24 * EPOCHS, "images": 48 * 24 * EPOCHS, "multiply_adds": 2_310_144}
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
    write_history(run / "retrain", retrain)
    write_history(run / "adapt", adapt)


def write_evaluation(folder, draw, classes, counts):
    num_classes = len(classes)
    labels = np.repeat(np.arange(num_classes), TEST_PER_CLASS)
    size = np.log(np.asarray(counts, float))
    bias = {"retrained": 0.9 * (size - size.mean()), "adapted": 0.25 * (size - size.mean())}
    scores = 2.6 * np.eye(num_classes)[labels] + draw.normal(size=(len(labels), num_classes))
    metrics, recalls, confusion = {}, {}, []
    for model, shift in bias.items():
        logits = 2 * (scores + shift)
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        metrics[model] = evaluate_predictions(probabilities, labels, counts, bins=15)
        predictions = probabilities.argmax(axis=1)
        recalls[model] = per_class_recall(labels, predictions, num_classes)
        for true in range(num_classes):
            for predicted in range(num_classes):
                n = int(np.sum((labels == true) & (predictions == predicted)))
                confusion.append({"model": model, "true": true, "predicted": predicted, "count": n})
    metrics |= {
        "groups": shot_groups(counts).to_dict(),
        "parameters": int(18_000 + draw.integers(0, 4_000)),
        "multiply_adds": int(900_000 + draw.integers(0, 150_000)),
        "test_images": len(labels),
    }
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    rows = [
        {
            "class": c,
            "name": classes[c],
            "count": counts[c],
            "recall_retrained": recalls["retrained"][c],
            "recall_adapted": recalls["adapted"][c],
        }
        for c in range(num_classes)
    ]
    write_rows(folder / "per_class.csv", rows)
    write_rows(folder / "confusion.csv", confusion)


def write_history(folder, rows):
    write_rows(folder / "history.csv", rows)


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)

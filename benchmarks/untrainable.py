"""Why some networks hardly train by a recipe at which others do well: too few steps, too small, or features off centre?

    python -m benchmarks.untrainable presets/glyphs-lt.yaml --output untrainable

Trains genotypes of a study's runs, listed in a table such as summary.csv (columns `run` and `genotype`), by its recipe
and by recipes that differ from it in one thing: three and ten times the epochs, a quarter of the learning rate, and
poolings followed by a BatchNorm without affine weights, as the search network has them. Before that it measures each
network as it was drawn, on one batch: length of the mean feature and spread of the features around it, and gradient
norms. `retrainings.csv` has one row per training; started again, the command goes on after the last one.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.output import claim
from benchmarks.target import Target
from tailnas.batches.batches import sequential_batches
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.foundation.errors import UserError
from tailnas.foundation.seeding import seed_for
from tailnas.genotype.genotype import Genotype
from tailnas.imbalance.accuracy import balanced_accuracy
from tailnas.retrain.retraining import network_builder, retrain
from tailnas.retrain.settings import Retrain
from tailnas.retrain.width import fitted_channels
from tailnas.space.device import prepare
from tailnas.space.network import Network
from tailnas.space.supernet import seeded_initialisation
from tailnas.training.loop import InnerLoop
from tailnas.validate.parameters import Params
from tailnas.validate.presets import load_preset

GENOTYPES = Path("docs/results/hardly-trained-genotypes.csv")
FACTORS: dict[str, dict[str, float]] = {
    "the study's": {},
    "3 x epochs": {"epochs": 3},
    "10 x epochs": {"epochs": 10},
    "rate / 4": {"learning_rate": 0.25},
}
"""Of `retrain.training`, for each recipe."""
POOL_NORM = "pools normalised"
RECIPES = (*FACTORS, POOL_NORM)
COLUMNS = (
    "run",
    "method",
    "imbalance_factor",
    "seed",
    "recipe",
    "balanced_accuracy",
    "first_loss",
    "last_loss",
    "last_training_accuracy",
    "offset",
    "spread",
    "gradient_norm",
    "classifier_gradient_norm",
    "max_pools",
    "average_pools",
    "skips",
    "genotype",
)


def changed(settings: Retrain, recipe: str) -> Retrain:
    """`settings` of retraining by a recipe."""
    if recipe == POOL_NORM:
        return settings.model_copy(update={"network": settings.network.model_copy(update={"pool_norm": True})})
    training = settings.training
    factors = {key: type(getattr(training, key))(getattr(training, key) * f) for key, f in FACTORS[recipe].items()}
    return settings.model_copy(update={"training": training.model_copy(update=factors)})


def signal(network: Network, images: Tensor, labels: Tensor) -> dict[str, float]:
    """What a batch is in the network: squared length of the mean feature, mean squared distance of features from it,
    and norms of the loss's gradient for all weights and for the classifier's.
    """
    features = network.train().features(images)
    mean = features.mean(0)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    loss = F.cross_entropy(network.classifier(features), labels)
    gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
    classifier = [g for w, g in zip(weights, gradients, strict=True) if w is network.classifier.weight]
    return {
        "offset": float(mean.detach().square().sum()),
        "spread": float((features - mean).detach().square().sum(1).mean()),
        "gradient_norm": float(torch.stack([gradient.norm() for gradient in gradients]).norm()),
        "classifier_gradient_norm": float(classifier[0].norm()),
    }


def drawn(settings: Retrain, genotype: Genotype, classes: int, data: DeviceImages, seed: int) -> Network:
    """The network that `retrain` begins with."""
    build = network_builder(settings, genotype, classes, data.images.shape[1])
    budget = settings.network.parameters
    channels = (
        settings.network.channels if budget is None else fitted_channels(lambda width: build(width, False), budget)
    )
    assert channels is not None
    with seeded_initialisation(seed_for(seed, "retrain", "network")):
        return build(channels, settings.network.auxiliary_weight > 0).to(data.device)


def trained(
    settings: Retrain, genotype: Genotype, data: DeviceImages, test: DeviceImages, classes: int, seed: int, recipe: str
) -> dict[str, Any]:
    """One training of the genotype by a recipe: a row but for its run."""
    normalisation = Normalisation.of(data.images)
    by = changed(settings, recipe)
    loop = InnerLoop("retrain alone", lambda: None)
    batch, labels = next(sequential_batches(shuffled(data), by.training.batch_size, normalisation))
    measured = signal(drawn(by, genotype, classes, data, seed), batch, labels)
    network, history = retrain(by, genotype, data, normalisation, classes, seed, loop)
    with torch.no_grad():
        network.eval()
        logits = [network(images) for images, _ in sequential_batches(test, 256, normalisation)]
    primitives = [primitive for edges in genotype.components().values() for primitive, _ in edges]
    return {
        "recipe": recipe,
        "balanced_accuracy": balanced_accuracy(test.labels, torch.cat(logits).argmax(1), classes),
        "first_loss": history[0]["loss"],
        "last_loss": history[-1]["loss"],
        "last_training_accuracy": history[-1]["accuracy"],
        **measured,
        "max_pools": primitives.count("max_pool_3x3"),
        "average_pools": primitives.count("avg_pool_3x3"),
        "skips": primitives.count("skip_connect"),
        "genotype": genotype.to_line(),
    }


def shuffled(data: DeviceImages) -> DeviceImages:
    """In a fixed order that is not by class."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).to(data.device)
    return DeviceImages(data.images.index_select(0, order), data.labels[order])


def parts(run: str) -> tuple[str, str, int]:
    """Method, imbalance factor and seed of a search, or of a run that is its first retraining."""
    if found := re.fullmatch(r"(\w+)-([\d.]+)-(\d+)(-0)?", run):
        return found[1], found[2], int(found[3])
    raise UserError(f"--genotypes: {run!r}; allowed: <method>-<imbalance factor>-<seed>, or with -0 after it")


def listed(file: Path) -> dict[str, Genotype]:
    """The genotype of each run in a table. Raises UserError naming the file."""
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            return {row["run"]: Genotype.from_json(row["genotype"]) for row in csv.DictReader(stream)}
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"--genotypes: {file}: {error}; allowed: a table with the columns run, genotype") from None


def fill(
    params: Params, target: Target, folder: Path, genotypes: dict[str, Genotype], recipes: list[str]
) -> list[dict[str, Any]]:
    """Train what `retrainings.csv` in `folder` does not have yet; returns all rows."""
    file = folder / "retrainings.csv"
    rows: list[dict[str, Any]] = []
    if file.exists():
        with file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    for run, genotype in genotypes.items():
        method, factor, seed = parts(run)
        study = params.study.model_copy(update={"imbalance_factors": [float(factor)]})
        of_run = Target(params.model_copy(update={"study": study}), target.device, target.data)
        for recipe in recipes:
            if any((row["run"], row["recipe"]) == (run, recipe) for row in rows):
                continue
            data = of_run.images(of_run.split(seed).indices)
            row = trained(params.retrain, genotype, data, target.test(), target.classes, seed, recipe)
            rows.append({"run": run, "method": method, "imbalance_factor": factor, "seed": seed, **row})
            with file.open("a", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
                if stream.tell() == 0:
                    writer.writeheader()
                writer.writerow(rows[-1])
            print(
                f"{run}, {recipe}: {row['balanced_accuracy']:.3f}, training loss {row['first_loss']:.2f} -> "
                f"{row['last_loss']:.2f}, mean feature {row['offset']:.0f}, spread {row['spread']:.0f}",
                flush=True,
            )
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", type=Path, help="a preset: the study that the runs are of")
    parser.add_argument("--output", type=Path, required=True, help="folder for retrainings.csv")
    parser.add_argument("--genotypes", type=Path, default=GENOTYPES, help="a table with the columns run, genotype")
    parser.add_argument("--runs", nargs="+", help="some of its runs; default: all")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES)
    args = parser.parse_args(arguments)
    try:
        params = load_preset(args.params)
        device = prepare(params.runtime.device, params.runtime.threads, params.retrain.training.precision)
        claim(args.output, params)
        genotypes = listed(args.genotypes)
        if args.runs and (unknown := sorted(set(args.runs) - set(genotypes))):
            raise UserError(f"--runs: {unknown[0]!r}; allowed: {', '.join(genotypes)}")
        chosen = {run: genotype for run, genotype in genotypes.items() if not args.runs or run in args.runs}
        fill(params, Target.load(params, device), args.output, chosen, args.recipes)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

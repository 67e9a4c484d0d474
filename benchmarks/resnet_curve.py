"""ResNet-32 on long-tailed images: the pipeline's retraining beside a plain training by the same recipe, per epoch.

    python -m benchmarks.resnet_curve presets/resnet32-ce.yaml --epochs 60 --output curve    rows of both
    python -m benchmarks.resnet_curve --table docs/results/resnet32-curve.csv                what the rows say

The plain training is the recipe of LDAM-DRW's code for cross-entropy (1906.07413, section 4) written again in plain
PyTorch. It shares with the pipeline the images and the loop that keeps checkpoints, and nothing else: network, first
weights, normalisation, order of images, crops, learning rates and optimiser are its own. Test accuracy is measured
after each epoch, though neither training chooses by it. --only takes one of them, so that they can run side by side;
the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.evidence import change, markdown
from benchmarks.output import claim
from benchmarks.target import Target
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.foundation.errors import UserError
from tailnas.foundation.seeding import retraining_seed, torch_generator
from tailnas.genotype.genotype import Genotype
from tailnas.retrain.retraining import retrain
from tailnas.space.device import prepare
from tailnas.training.checkpoint import Row, Stateful
from tailnas.training.loop import Loop, RunEpoch
from tailnas.validate.parameters import Params
from tailnas.validate.presets import load_preset

TRAININGS = ("pipeline", "plain")
COLUMNS = ("training", "seed", "epoch", "learning_rate", "loss", "accuracy", "test_accuracy")
CIFAR_MEAN, CIFAR_SD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
"""Of CIFAR-10's pixels, by which the reference normalises."""
AT_ONCE = 500


class Measured(Loop):
    """The first `epochs` epochs of a training, each measured on test images (N, C, H, W) as the network sees them."""

    def __init__(self, folder: Path, name: str, epochs: int, images: Tensor, labels: Tensor) -> None:
        super().__init__(f"retrain {name}", folder / f"{name}.pt", folder / "events" / name, "lines")
        self.epochs, self.images, self.labels = epochs, images, labels

    def one_epoch(
        self, epoch: int, run_epoch: RunEpoch, step_done: Callable[[], None], parts: Mapping[str, Stateful]
    ) -> Row:
        network = parts["network"]
        assert isinstance(network, nn.Module)
        row = super().one_epoch(epoch, run_epoch, step_done, parts)
        return {**row, "test_accuracy": accuracy(network, self.images, self.labels)}

    def run(self, *arguments: Any, **others: Any) -> list[Row]:
        return super().run(*arguments, **{**others, "stop": lambda rows: len(rows) >= self.epochs})


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of `images` (N, C, H, W), as the network sees them, that it gets right in eval mode."""
    network.eval()
    hits = [
        (network(part).argmax(1) == truth).sum()
        for part, truth in zip(images.split(AT_ONCE), labels.split(AT_ONCE), strict=True)
    ]
    return int(torch.stack(hits).sum()) / len(labels)


def normalised(images: Tensor, mean: Sequence[float], sd: Sequence[float]) -> Tensor:
    """uint8 (N, C, H, W) to float, by numbers of each channel for pixels from 0 to 1."""
    by_channel = [torch.tensor(values, device=images.device)[:, None, None] for values in (mean, sd)]
    return (images / 255 - by_channel[0]) / by_channel[1]


def pipeline(params: Params, data: DeviceImages, test: DeviceImages, seed: int, epochs: int, folder: Path) -> list[Row]:
    """The rows of the first `epochs` epochs of the pipeline's retraining: those of the stage, bit by bit."""
    normalisation = Normalisation.of(data.images)
    assert isinstance(test.images, Tensor)
    shown = normalised(test.images, normalisation.mean, normalisation.std)
    loop = Measured(folder, f"pipeline-{seed}", epochs, shown, test.labels)
    classes = int(test.labels.max()) + 1
    drawn = retraining_seed(seed, 0)
    return retrain(params.retrain, Genotype(network="resnet32"), data, normalisation, classes, drawn, loop)[1]


class PlainBlock(nn.Module):
    """A residual block with a shortcut of type A (1512.03385, section 4.2)."""

    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        stride = 1 if before == channels else 2
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.added = stride, channels - before

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride == 2:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added // 2, self.added // 2))
        return F.relu(out + x)


class PlainResNet32(nn.Module):
    """6 n + 2 layers, n = 5; weights by He et al. (1502.01852), the classifier's too."""

    def __init__(self, classes: int, channels: int = 16) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        widths = [channels] * 6 + [2 * channels] * 5 + [4 * channels] * 5
        self.blocks = nn.Sequential(*(PlainBlock(*pair) for pair in pairwise(widths)))
        self.linear = nn.Linear(4 * channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.blocks(F.relu(self.bn(self.conv(x)))).mean((2, 3)))


def reference_rate(epoch: int) -> float:
    """Learning rate of the reference in `epoch`, which counts from 1, of 200."""
    if epoch <= 5:
        return 0.1 * epoch / 5
    return 0.1 if epoch <= 160 else 0.001 if epoch <= 180 else 0.00001


class PlainImages:
    """Batches of 128 in a new order per epoch, the last one smaller; each image padded by 4, cut out and mirrored."""

    def __init__(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> None:
        self.images, self.labels, self.generator = images, labels, generator

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        black = normalised(torch.zeros_like(self.images[:1, :, :1, :1]), CIFAR_MEAN, CIFAR_SD)
        for rows in torch.randperm(len(self.labels), generator=self.generator).split(128):
            batch = []
            for image in normalised(self.images[rows], CIFAR_MEAN, CIFAR_SD):
                canvas = black[0].repeat(1, 40, 40)
                canvas[:, 4:36, 4:36] = image
                top, left, mirror = (int(torch.randint(n, (), generator=self.generator)) for n in (9, 9, 2))
                cut = canvas[:, top : top + 32, left : left + 32]
                batch.append(cut.flip(2) if mirror else cut)
            yield torch.stack(batch), self.labels[rows]

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])


def plain(data: DeviceImages, test: DeviceImages, seed: int, epochs: int, folder: Path) -> list[Row]:
    """The rows of `epochs` epochs of the reference's training of 200."""
    assert isinstance(data.images, Tensor) and isinstance(test.images, Tensor)
    torch.manual_seed(seed)
    network = PlainResNet32(int(test.labels.max()) + 1).to(data.device)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=2e-4)
    batches = PlainImages(data.images, data.labels, torch_generator(seed, "plain ResNet-32"))

    def run_epoch(epoch: int, step_done: Callable[[], None]) -> Row:
        for group in optimiser.param_groups:
            group["lr"] = reference_rate(epoch + 1)
        network.train()
        losses, hits = [], 0
        for images, labels in batches:
            logits = network(images)
            loss = F.cross_entropy(logits, labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            hits += int((logits.argmax(1) == labels).sum())
            step_done()
        rate = optimiser.param_groups[0]["lr"]
        return {"learning_rate": rate, "loss": float(np.mean(losses)), "accuracy": hits / len(data)}

    shown = normalised(test.images, CIFAR_MEAN, CIFAR_SD)
    loop = Measured(folder, f"plain-{seed}", epochs, shown, test.labels)
    parts: dict[str, Stateful] = {"network": network, "optimiser": optimiser, "batches": batches}
    return loop.run(200, -(-len(data) // 128), run_epoch, parts)


def table(rows: pd.DataFrame, every: int) -> Iterator[list[str]]:
    """Means over each `every` epochs and all seeds, in percent, and the difference of test accuracy with its interval
    over epochs: single epochs at a rate of 0.1 differ by several points.
    """
    columns = (("loss", 1, 3), ("accuracy", 100, 1), ("test_accuracy", 100, 1))
    titles = ("loss", "training %", "test %")
    yield ["epochs", *(f"{name}: {title}" for title in titles for name in TRAININGS), "difference"]
    means = rows.groupby(["training", "epoch"])[["loss", "accuracy", "test_accuracy"]].mean()
    both = [means.loc[name] for name in TRAININGS]
    shared = sorted(set(both[0].index) & set(both[1].index))
    for _, epochs in groupby(shared, lambda epoch: (epoch - 1) // every):
        part = [*epochs]
        cells = [f"{part[0]} to {part[-1]}"]
        for column, scale, digits in columns:
            cells += [f"{scale * float(mean.loc[part, column].mean()):.{digits}f}" for mean in both]
        one, other = (100 * mean.loc[part, "test_accuracy"] for mean in both)
        yield [*cells, change(one - other)]


def write(file: Path, rows: Sequence[Row]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            rounded = {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}
            writer.writerow({name: rounded[name] for name in COLUMNS})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.resnet_curve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("preset", type=Path, nargs="?", help="the parameters, as presets/resnet32-ce.yaml")
    parser.add_argument("--output", type=Path, help="folder of the rows, one file for each training and seed")
    parser.add_argument("--epochs", type=int, default=60, help="epochs to run (60) of those of the recipe")
    parser.add_argument("--only", choices=TRAININGS, help="one of the two")
    parser.add_argument("--table", type=Path, nargs="+", help="print what these rows say")
    parser.add_argument("--every", type=int, default=10, help="epochs in a line of the table (10)")
    args = parser.parse_args(arguments)
    try:
        if args.table:
            print(markdown(table(pd.concat([pd.read_csv(file) for file in args.table]), args.every)))
            return
        if args.preset is None or args.output is None:
            parser.error("allowed: a preset and --output, or --table")
        params = load_preset(args.preset)
        if not 1 <= args.epochs <= params.retrain.training.epochs:
            raise UserError(f"--epochs: {args.epochs}; allowed: from 1 to retrain.training.epochs")
        claim(args.output, params)
        device = prepare(params.runtime.device, params.runtime.threads, params.retrain.training.precision)
        target = Target.load(params, device)
        for seed in params.study.seeds:
            data, test = target.images(target.split(seed).indices), target.test()
            for name in TRAININGS if args.only is None else (args.only,):
                rows = (
                    pipeline(params, data, test, seed, args.epochs, args.output)
                    if name == "pipeline"
                    else plain(data, test, seed, args.epochs, args.output)
                )
                write(args.output / f"{name}-{seed}.csv", [{"training": name, "seed": seed, **row} for row in rows])
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

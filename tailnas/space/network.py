"""The network derived from a genotype: what is retrained, adapted, evaluated and handed to users (DARTS, section
3.1).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, ValidationError
from torch import Tensor, nn

from tailnas.foundation.class_names import wrong_class_name
from tailnas.foundation.errors import UserError, cut
from tailnas.foundation.settings import Count, Positive, Section, Share, first_mistake
from tailnas.genotype.genotype import Edges, Genotype
from tailnas.genotype.pretrained import Pretrained
from tailnas.genotype.primitives import NODES
from tailnas.space.frozen import FrozenCell
from tailnas.space.network_cell import NetworkCell
from tailnas.space.operations import FactorizedReduce, ReLUConvBN, concatenated, fast_layout, make_operation
from tailnas.space.resnet import REDUCTIONS, ResidualBlock, resnet_blocks, resnet_stem
from tailnas.space.supernet import CELL_MULTIPLIER, STEM_MULTIPLIER, default_reductions, pooled
from tailnas.space.weights import load_state, read_weights, require_state, save_weights

AUXILIARY_MAP = 8
TEMPERATURES = (1 / 20, 20.0)
"""Smallest and largest that a network may have."""
LARGEST_WEIGHT = 1e18
"""Squares of larger ones are infinite in float32."""


def doubled(channels: int, stages: int) -> tuple[int, ...]:
    """Channels of each stage, twice as many after each reduction."""
    return tuple(channels * 2**stage for stage in range(stages))


class DerivedCell(NetworkCell):
    """One discrete cell: each node is the sum of two operations, the output concatenates all nodes."""

    def __init__(
        self,
        edges: Edges,
        older_channels: int,
        newer_channels: int,
        channels: int,
        *,
        reduction: bool,
        reduction_before: bool,
        pool_norm: bool,
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.preprocess_older = (
            FactorizedReduce(older_channels, channels, affine=True)
            if reduction_before
            else ReLUConvBN(older_channels, channels, affine=True)
        )
        self.preprocess_newer = ReLUConvBN(newer_channels, channels, affine=True)
        self.sources = tuple(source for _, source in edges)
        self.operations = nn.ModuleList(
            make_operation(primitive, channels, 2 if reduction and source < 2 else 1, affine=True, pool_norm=pool_norm)
            for primitive, source in edges
        )

    def droppable(self) -> int:
        """Number of operations that drop-path may drop: all but identities."""
        return sum(not isinstance(operation, nn.Identity) for operation in self.operations)

    def forward(self, older: Tensor, newer: Tensor, path_scales: list[Tensor]) -> Tensor:
        """`path_scales`: one (N, 1, 1, 1) factor for each droppable operation, or none at all."""
        states = [self.preprocess_older(older), self.preprocess_newer(newer)]
        scales = iter(path_scales)
        outputs = []
        for source, operation in zip(self.sources, self.operations, strict=True):
            output = operation(states[source])
            if path_scales and not isinstance(operation, nn.Identity):
                output = output * next(scales)
            outputs.append(output)
            if len(outputs) % 2 == 0:
                states.append(outputs[-2] + outputs[-1])
        return concatenated(states[-NODES:])


class AuxiliaryHead(nn.Sequential):
    """A second classifier on an 8x8 map in the middle of the network, for training only."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__(
            nn.ReLU(),
            nn.AvgPool2d(5, stride=3, count_include_pad=False),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(768, num_classes),
        )


class Network(nn.Module):
    """The derived network of `cells` cells. `channels`: those before the first reduction, doubled at each, or of each
    stage.

    When the genotype has an instance head, the last cell is that head (single-branch retraining of a two-branch
    search). With `auxiliary`, a training-mode forward returns (logits, auxiliary logits) and images must be 32x32, so
    that the map after cell 2 * cells // 3 is 8x8. `reductions`: by default cells // 3 and 2 * cells // 3.

    With two `branches` (BBN, 1912.02413) the last cell has a twin, `class_head`, that takes the same inputs: the class
    head where the genotype has one, else one more normal cell. The classifier sees the features of both, instance head
    first, so that its weight is [W_i W_c].

    With `pool_norm` poolings are followed by a BatchNorm without affine weights, as the search network has them; DARTS'
    derived networks have none.

    The depth of a hand-made network (`genotype.network`) is its own, and the twin is its last block over again, as BBN
    has it.

    `classes`, `normalisation` (mean and standard deviation per channel of pixels in 0..1), `image_size` (side in
    pixels, None for any) and `class_counts` (training images of each class) say what it was trained on. `prior` (K,):
    the class frequencies that its probabilities assume. `temperature` divides its logits in `predict`;
    `class_thresholds` (K,) are the probabilities from which on a class belongs to an image's set, which lacks the true
    class with probability `miss` (tailnas.calibration); None without calibration.

    `feature_norm`: length to which features are scaled before the classifier (cosine classifiers); None leaves them.
    `drop_path` is the probability with which each non-identity operation of each cell is dropped for each image in
    training; while it is above 0, `drop_path_generator` (CPU) must be set.
    """

    def __init__(
        self,
        genotype: Genotype,
        channels: int | Sequence[int],
        cells: int,
        num_classes: int,
        auxiliary: bool = False,
        in_channels: int = 3,
        *,
        reductions: Sequence[int] | None = None,
        branches: int = 1,
        pool_norm: bool = False,
    ) -> None:
        super().__init__()
        if branches not in (1, 2) or (branches == 2 and auxiliary):
            raise ValueError(f"branches: {branches}, auxiliary: {auxiliary}; allowed: 1, or 2 without auxiliary head")
        self.genotype = genotype
        self.num_classes = num_classes
        self.pool_norm = pool_norm
        self.in_channels = in_channels
        self.reductions = tuple(default_reductions(cells) if reductions is None else reductions)
        if genotype.network is not None:
            self.reductions = REDUCTIONS if genotype.pretrained is None else ()
        stages = len(self.reductions) + 1
        self.channels = doubled(channels, stages) if isinstance(channels, int) else tuple(channels)
        """Of each stage, from one reduction to the next."""
        if len(self.channels) != stages or min(self.channels) < 1:
            raise ValueError(f"channels: {list(self.channels)}; allowed: {stages} numbers of at least 1, one per stage")
        self.auxiliary_cell = 2 * cells // 3
        self.feature_norm: float | None = None
        self.drop_path = 0.0
        self.drop_path_generator: torch.Generator | None = None
        self.classes: tuple[str, ...] = tuple(map(str, range(num_classes)))
        self.normalisation: tuple[tuple[float, ...], tuple[float, ...]] = ((0.0,) * in_channels, (1.0,) * in_channels)
        self.image_size: int | None = None
        self.class_counts: tuple[int, ...] | None = None
        self.prior = (1 / num_classes,) * num_classes
        self.temperature = 1.0
        self.class_thresholds: tuple[float, ...] | None = None
        self.miss: float | None = None

        self.stem = nn.Sequential()
        self.cells = nn.ModuleList()
        self.auxiliary_head: AuxiliaryHead | None = None
        self.class_head: NetworkCell | None = None
        if genotype.network is None:
            features = self._derived_cells(genotype, cells, branches, auxiliary)
        elif genotype.pretrained is not None:
            features = self._frozen_cell(genotype.pretrained, branches)
        else:
            features = self._residual_blocks(branches, auxiliary)
        self.classifier = nn.Linear(branches * features, num_classes)

    def _derived_cells(self, genotype: Genotype, cells: int, branches: int, auxiliary: bool) -> int:
        """Stem and cells of a genotype; returns the channels of the last cell's output."""
        stem_channels = STEM_MULTIPLIER * self.channels[0]
        self.stem = nn.Sequential(
            nn.Conv2d(self.in_channels, stem_channels, 3, padding=1, bias=False), nn.BatchNorm2d(stem_channels)
        )
        older, newer, stage, reduction_before = stem_channels, stem_channels, 0, False
        for index in range(cells):
            reduction = index in self.reductions
            edges = genotype.reduce if reduction else genotype.normal
            if index == cells - 1 and (branches == 2 or genotype.instance_head is not None):
                if reduction:
                    raise ValueError(f"reductions: {self.reductions}; allowed: without the head cell {index}")
                edges = genotype.instance_head or genotype.normal
            stage += reduction
            width = self.channels[stage]
            self.cells.append(
                DerivedCell(
                    edges,
                    older,
                    newer,
                    width,
                    reduction=reduction,
                    reduction_before=reduction_before,
                    pool_norm=self.pool_norm,
                )
            )
            if branches == 2 and index == cells - 1:
                twin = genotype.class_head or genotype.normal
                self.class_head = DerivedCell(
                    twin,
                    older,
                    newer,
                    width,
                    reduction=False,
                    reduction_before=reduction_before,
                    pool_norm=self.pool_norm,
                )
            older, newer, reduction_before = newer, CELL_MULTIPLIER * width, reduction
            if auxiliary and index == self.auxiliary_cell:
                self.auxiliary_head = AuxiliaryHead(newer, self.num_classes)
        return newer

    def _residual_blocks(self, branches: int, auxiliary: bool) -> int:
        """Stem and blocks of ResNet-32; returns the channels of the last block's output."""
        self.stem = resnet_stem(self.channels[0], self.in_channels)
        self.cells.extend(resnet_blocks(self.channels))
        self.auxiliary_cell = REDUCTIONS[-1]
        width = self.channels[-1]
        if branches == 2:
            self.class_head = ResidualBlock(width, width, stride=1)
        if auxiliary:
            self.auxiliary_head = AuxiliaryHead(width, self.num_classes)
        return width

    def _frozen_cell(self, pretrained: Pretrained, branches: int) -> int:
        """A pretrained network in the place of all cells; returns its features."""
        if branches == 2:
            raise ValueError("branches: 2; allowed: 1 with a frozen network")
        cell = FrozenCell(pretrained)
        self.cells.append(cell)
        return cell.features

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Logits (N, K) of normalised images (N, in_channels, H, W); with the auxiliary head's in training mode."""
        last, middle = self._maps(images, self._heads())
        logits = self.classifier(self._seen_by_classifier(last))
        if self.auxiliary_head is None or not self.training:
            return logits
        if middle.shape[2:] != (AUXILIARY_MAP, AUXILIARY_MAP):
            raise ValueError(f"auxiliary head: map {tuple(middle.shape[2:])}; allowed: 8x8, that of 32x32 images")
        return logits, self.auxiliary_head(middle)

    def mixed_logits(self, images_i: Tensor, images_c: Tensor, mixing_ratio: float) -> Tensor:
        """BBN's z = 2 (mu W_i f_i + (1 - mu) W_c f_c) + b, (N, K), of an instance and a class batch, for training.

        The instance batch goes through the shared cells and the instance head first, then the class batch through the
        shared cells and the class head. At mu = 1/2 and with equal images it is what `forward` gives in eval mode.
        """
        instance_head, class_head = self._heads()
        features_i = self._seen_by_classifier(self._maps(images_i, [instance_head])[0])
        features_c = self._seen_by_classifier(self._maps(images_c, [class_head])[0])
        mixed = torch.cat([2 * mixing_ratio * features_i, 2 * (1 - mixing_ratio) * features_c], dim=1)
        return self.classifier(mixed)

    def features(self, images: Tensor) -> Tensor:
        """Globally pooled output of the last cell (of both heads, where there are two), (N, D): what the classifier
        sees.
        """
        return self._seen_by_classifier(self._maps(images, self._heads())[0])

    def predict(self, images: Tensor | np.ndarray[Any, Any]) -> Tensor:
        """Class probabilities (N, K), at `temperature`, of raw images uint8 (N, C, H, W), normalised here, in eval mode
        whatever the mode is. Images of another size than it was trained on are refused: it would be wrong on them.
        """
        pixels = torch.as_tensor(images)
        wanted = (self.in_channels, *([self.image_size] * 2 if self.image_size else pixels.shape[2:]))
        if pixels.dtype != torch.uint8 or pixels.dim() != 4 or tuple(pixels.shape[1:]) != wanted:
            sides = f"{self.image_size}, {self.image_size}" if self.image_size else "H, W"
            raise ValueError(
                f"images: {pixels.dtype} {tuple(pixels.shape)}; "
                f"allowed: uint8 of shape (N, {self.in_channels}, {sides})"
            )
        weight = self.classifier.weight
        mean, std = (torch.tensor(part).to(weight).view(1, -1, 1, 1) for part in self.normalisation)
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                logits = self.classifier(self.features((pixels.to(weight) / 255 - mean) / std))
                return F.softmax(logits / self.temperature, dim=1)
        finally:
            self.train(training)

    def _heads(self) -> list[NetworkCell]:
        heads = [self.cells[-1]] if self.class_head is None else [self.cells[-1], self.class_head]
        return [head for head in heads if isinstance(head, NetworkCell)]

    def _seen_by_classifier(self, maps: list[Tensor]) -> Tensor:
        features = torch.cat([pooled(part) for part in maps], dim=1) if len(maps) > 1 else pooled(maps[0])
        return features if self.feature_norm is None else self.feature_norm * F.normalize(features, dim=1)

    def _maps(self, images: Tensor, heads: Sequence[NetworkCell]) -> tuple[list[Tensor], Tensor]:
        """Outputs of `heads` in the place of the last cell, and of the cell that carries the auxiliary head."""
        shared = [cell for cell in self.cells if isinstance(cell, NetworkCell)][:-1]
        scales = self._path_scales(images, [*shared, *heads])
        older = newer = fast_layout(self.stem(fast_layout(images)))
        middle = None
        for index, cell in enumerate(shared):
            own, scales = scales[: cell.droppable()], scales[cell.droppable() :]
            older, newer = newer, cell(older, newer, own)
            if index == self.auxiliary_cell:
                middle = newer
        last = []
        for head in heads:
            own, scales = scales[: head.droppable()], scales[head.droppable() :]
            last.append(head(older, newer, own))
        return last, last[0] if middle is None else middle

    def _path_scales(self, images: Tensor, cells: Sequence[NetworkCell]) -> list[Tensor]:
        """Drop-path factors of every droppable operation, drawn in one go: 0, or 1 / (1 - drop_path)."""
        if not self.training or self.drop_path == 0:
            return []
        if self.drop_path_generator is None:
            raise ValueError(f"drop_path: {self.drop_path} without drop_path_generator; allowed: 0")
        count = sum(cell.droppable() for cell in cells)
        keep = 1 - self.drop_path
        draws = torch.rand(count, len(images), 1, 1, 1, generator=self.drop_path_generator) < keep
        return list((draws / keep).to(images).unbind())


def save_model(path: Path, network: Network) -> None:
    """Write `network` without its auxiliary head, with all that load_model needs and what it was trained on."""
    state = {key: value for key, value in network.state_dict().items() if not key.startswith("auxiliary_head.")}
    config = {
        "kind": "network",
        "genotype": json.loads(network.genotype.to_json()),
        "channels": list(network.channels),
        "cells": len(network.cells),
        "reductions": list(network.reductions),
        "in_channels": network.in_channels,
        "classes": list(network.classes),
        "mean": list(network.normalisation[0]),
        "std": list(network.normalisation[1]),
        "image_size": network.image_size,
        "class_counts": None if network.class_counts is None else list(network.class_counts),
        "prior": list(network.prior),
        "temperature": network.temperature,
    }
    if network.class_thresholds is not None:
        config |= {"class_thresholds": list(network.class_thresholds), "miss": network.miss}
    if network.class_head is not None:
        config["branches"] = 2
    if network.pool_norm:
        config["pool_norm"] = True
    if network.feature_norm is not None:
        config["feature_norm"] = network.feature_norm
    save_weights(path, state, config)


class _Description(Section):
    """What a model file says of its network."""

    kind: Literal["network"]
    genotype: dict[str, Any]
    channels: Annotated[tuple[Annotated[int, Field(ge=1, le=2**20)], ...], Field(max_length=64)]
    cells: Annotated[int, Field(ge=1, le=1000)]
    reductions: Annotated[tuple[Annotated[int, Field(ge=0, lt=1000)], ...], Field(max_length=63)]
    in_channels: Annotated[int, Field(ge=1, le=1024)]
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    mean: tuple[Share, ...]
    std: tuple[Annotated[float, Field(ge=1e-6, le=1)], ...]
    image_size: Annotated[int, Field(ge=1, le=1024)] | None
    class_counts: tuple[Count, ...] | None
    prior: tuple[Annotated[float, Field(gt=0, le=1)], ...]
    temperature: Annotated[float, Field(ge=TEMPERATURES[0], le=TEMPERATURES[1])]
    class_thresholds: tuple[Share, ...] | None = None
    miss: Annotated[float, Field(gt=0, lt=1)] | None = None
    branches: Literal[1, 2] = 1
    pool_norm: bool = False
    feature_norm: Positive | None = None

    def network(self) -> Network:
        """The network as it is described, with weights at random. Raises ValueError."""
        return Network(
            Genotype.from_dict(self.genotype),
            self.channels,
            self.cells,
            len(self.classes),
            in_channels=self.in_channels,
            reductions=self.reductions,
            branches=self.branches,
            pool_norm=self.pool_norm,
        )


def load_model(path: Path | str, classes: Sequence[str] | None = None) -> Network:
    """The network that save_model wrote, in eval mode on the CPU, ready for `predict`.

    classes: those of the data that it is meant for, if that matters. Nothing larger than the file is made before its
    description and its tensors fit each other. Raises UserError naming the file.
    """
    path = Path(path)
    state, config = read_weights(path, kind="network")
    try:
        described = _Description.model_validate_json(json.dumps(config))
        if described.cells > len(state):
            raise ValueError(f"cells: {described.cells}; allowed: as many as there are tensors ({len(state)})")
        with torch.device("meta"):
            require_state(described.network(), state, path)
    except ValidationError as error:
        raise UserError(f"{path}: {first_mistake(error)}; allowed: what the retrain stage writes") from None
    except (TypeError, ValueError, RuntimeError) as error:
        reason = cut(" ".join(str(error).split()), 200)
        raise UserError(f"{path}: unusable description ({reason}); allowed: what the retrain stage writes") from None
    mean, std = described.mean, described.std
    if len(mean) != described.in_channels or len(std) != described.in_channels:
        raise UserError(f"{path}: mean, std: {len(mean)}, {len(std)} values; allowed: {described.in_channels} each")
    if described.class_counts is not None and len(described.class_counts) != len(described.classes):
        raise UserError(
            f"{path}: class_counts: {len(described.class_counts)} numbers; allowed: {len(described.classes)}, or null"
        )
    classes_there = len(described.classes)
    if len(described.prior) != classes_there or abs(sum(described.prior) - 1) > 1e-6:
        raise UserError(
            f"{path}: prior: {len(described.prior)} numbers of sum {sum(described.prior):.6g}; "
            f"allowed: {classes_there} of sum 1"
        )
    if (described.class_thresholds is None) != (described.miss is None):
        raise UserError(f"{path}: class_thresholds, miss: one of them; allowed: both or none")
    if described.class_thresholds is not None and len(described.class_thresholds) != classes_there:
        raise UserError(
            f"{path}: class_thresholds: {len(described.class_thresholds)} numbers; allowed: {classes_there}, or none"
        )
    if wrong := wrong_class_name(described.classes):
        raise UserError(f"{path}: {wrong}")
    if classes is not None and tuple(classes) != described.classes:
        raise UserError(f"{path}: {len(described.classes)} other classes; allowed: the {len(classes)} of the data")
    for key, tensor in state.items():
        if not (tensor.abs() <= LARGEST_WEIGHT).all():
            raise UserError(
                f"{path}: the tensor {key} holds NaN or a number beyond {LARGEST_WEIGHT:g}; allowed: those of a "
                "training that stayed finite"
            )
        if key.endswith("running_var") and (tensor < 0).any():
            raise UserError(f"{path}: the tensor {key} holds a variance below 0; allowed: from 0")
    network = described.network()
    load_state(network, state, path)
    network.feature_norm = described.feature_norm
    network.classes = described.classes
    network.normalisation = (mean, std)
    network.image_size, network.class_counts = described.image_size, described.class_counts
    network.prior, network.temperature = described.prior, described.temperature
    network.class_thresholds, network.miss = described.class_thresholds, described.miss
    return network.eval()

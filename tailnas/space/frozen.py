"""A pretrained network as it is, in the place of all cells: the reference that no search is needed for.

The architecture is torchvision's or timm's, without its own classifier; nothing is ever downloaded.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

from tailnas.foundation.errors import UserError
from tailnas.foundation.users_path import users_path
from tailnas.genotype.pretrained import Pretrained
from tailnas.space.network_cell import NetworkCell
from tailnas.space.weights import load_state

KEY = "search.frozen"


class FrozenCell(NetworkCell):
    """Features (N, D, 1, 1) of images (N, 1 or 3, H, W) with pixel values from 0 to 1, in eval mode at all times.

    Images are made colour, resized to the side that the network wants (bilinear, antialiased, the whole image) and
    normalised as it wants. Its weights are random until `load_weights`. Raises UserError where the package does not
    build the architecture.
    """

    def __init__(self, pretrained: Pretrained) -> None:
        super().__init__()
        self.pretrained = pretrained
        self.backbone = built(pretrained)
        self.classifier_name, classifier = own_classifier(pretrained, self.backbone)
        self.features = classifier.in_features
        parent, _, name = self.classifier_name.rpartition(".")
        setattr(self.backbone.get_submodule(parent), name, nn.Identity())
        self.backbone.requires_grad_(False)
        for name in ("mean", "std"):
            values = torch.tensor(getattr(pretrained, name)).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.eval()

    mean: Tensor
    std: Tensor

    def droppable(self) -> int:
        return 0

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, older: Tensor, newer: Tensor, path_scales: list[Tensor]) -> Tensor:
        images = newer.expand(-1, 3, -1, -1)
        side = self.pretrained.image_size
        if images.shape[2:] != (side, side):
            images = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
        return self.backbone((images - self.mean) / self.std)[:, :, None, None]

    def load_weights(self) -> None:
        """Read the file of weights. Raises UserError: no file, another checksum, not the weights of this network."""
        path = users_path(f"{KEY}.weights", self.pretrained.weights)
        state = weights_in(path, self.pretrained.sha256)
        state = {name: v for name, v in state.items() if not name.startswith(f"{self.classifier_name}.")}
        # old files do not count batches
        counters = {k: v for k, v in self.backbone.state_dict().items() if k.endswith("num_batches_tracked")}
        load_state(self.backbone, {**counters, **state}, path)


def built(pretrained: Pretrained) -> nn.Module:
    """The architecture with random weights. Raises UserError."""
    name = pretrained.architecture
    if pretrained.package == "torchvision":
        from torchvision import models

        if name not in models.list_models(module=models):
            raise UserError(f"{KEY}.architecture: {name!r}; allowed: a classification network of torchvision")
        network: nn.Module = models.get_model(name, weights=None)
        return network
    try:
        import timm
    except ImportError:
        raise UserError(
            f"{KEY}.package: 'timm', which is not installed; allowed: 'torchvision', or tailnas[timm]"
        ) from None
    if not timm.is_model(name):
        raise UserError(f"{KEY}.architecture: {name!r}; allowed: a network of timm")
    model: nn.Module = timm.create_model(name, pretrained=False)
    return model


def own_classifier(pretrained: Pretrained, network: nn.Module) -> tuple[str, nn.Linear]:
    """Name and module of the linear layer that a classification network ends in. Raises UserError."""
    if pretrained.package == "timm":
        ends: Any = network.get_classifier()  # type: ignore[operator]
        found = [(name, part) for name, part in network.named_modules() if part is ends]
    else:
        found = [(name, part) for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    if not found or not isinstance(found[-1][1], nn.Linear):
        raise UserError(f"{KEY}.architecture: {pretrained.architecture!r}; allowed: one that ends in a linear layer")
    return found[-1][0], found[-1][1]


def weights_in(path: Path, sha256: str) -> Mapping[str, Tensor]:
    """Tensors by name of a state dict in safetensors or torch's format, read without unpickling objects."""
    if not path.is_file():
        raise UserError(f"{KEY}.weights: {path}: no such file; allowed: the weights of the network")
    content = path.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise UserError(f"{KEY}.sha256: {sha256}, but {path} has {found}; allowed: the checksum of the file")
    try:
        if path.suffix == ".safetensors":
            return load(content)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives raise nearly anything
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{KEY}.weights: {path}: unreadable ({reason}); allowed: a state dict") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{KEY}.weights: {path}: not tensors by name alone; allowed: a state dict")
    return state

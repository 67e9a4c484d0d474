"""The search network as it is defined, module by module. Chosen by name, as the reference, and in evaluation mode."""

import torch
from torch import Tensor, nn

from tailnas.space.cell import SearchCell


class PlainBackend:
    """Maps are tensors (N, C, H, W). `channels_last` makes a CPU choose faster kernels and other roundings."""

    def __init__(self, *, channels_last: bool = False) -> None:
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def stem(self, stem: nn.Sequential, images: Tensor) -> Tensor:
        return stem(images.contiguous(memory_format=self.memory_format))

    def cell(self, cell: SearchCell, older: Tensor, newer: Tensor, mixture: Tensor) -> Tensor:
        return cell(older, newer, mixture)

    def pooled(self, output: Tensor) -> Tensor:
        return output.mean(dim=(2, 3))

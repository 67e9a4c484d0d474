"""ResNet-32 for small images (1512.03385, section 4.2): the hand-made network that long-tailed results are known for.

Three stages of five residual blocks; the second and third start with stride 2 and more channels, and their
shortcuts subsample and pad with zeros (option A), so that no shortcut has weights.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from tailnas.space.network_cell import NetworkCell

BLOCKS = 5
STAGES = 3
REDUCTIONS = tuple(stage * BLOCKS for stage in range(1, STAGES))
"""Blocks that halve the map."""


class ResidualBlock(NetworkCell):
    """ReLU of two 3x3 convolutions with BatchNorm plus the shortcut. Drop-path drops the convolutions (stochastic
    depth).
    """

    def __init__(self, in_channels: int, channels: int, *, stride: int) -> None:
        super().__init__()
        self.padding = channels - in_channels
        self.stride = stride
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def droppable(self) -> int:
        return 1

    def forward(self, older: Tensor, newer: Tensor, path_scales: list[Tensor]) -> Tensor:
        """`older` is not used: a block sees the block before it alone."""
        shortcut = newer
        if self.stride > 1:
            before = self.padding // 2
            shortcut = F.pad(newer[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.padding - before))
        residual = self.residual(newer)
        return F.relu(shortcut + (residual * path_scales[0] if path_scales else residual))


def resnet_stem(channels: int, in_channels: int) -> nn.Sequential:
    """3x3 convolution, BatchNorm, ReLU: images to `channels` maps."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
    )


def resnet_blocks(channels: Sequence[int]) -> list[ResidualBlock]:
    """The 15 blocks; `channels`: of each of the three stages."""
    blocks = []
    width = channels[0]
    for index in range(STAGES * BLOCKS):
        blocks.append(ResidualBlock(width, channels[index // BLOCKS], stride=2 if index in REDUCTIONS else 1))
        width = channels[index // BLOCKS]
    return blocks

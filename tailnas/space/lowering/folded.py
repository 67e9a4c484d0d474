"""The search network in training on a CPU: channels-last from stem to classifier, one autograd function a cell.

Chosen on CPUs in training mode. At C16 L8, batch 32, 32x32 a first-order step takes a third of the time and memory
of the plain network.
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailnas.space.cell import SearchCell
from tailnas.space.lowering.allocator import keep_freed_memory
from tailnas.space.lowering.description import CellDescription
from tailnas.space.lowering.folded_cell import folded_cell
from tailnas.space.lowering.layout import maps, rows
from tailnas.space.lowering.leaving import Small
from tailnas.space.lowering.standardise import normalised, preprocess

SMALL = Small(training=200_000, alphas_only=300_000)
"""Where all edges side by side are faster than one by one.

Milliseconds of a cell's forward and backward, batch 32, two threads, one by one and side by side. For alphas alone:
C16 32x32 (524,288 numbers a map) 179, 197; C32 16x16 (262,144) 123, 110; C64 8x8 (131,072) 100, 69. With the weights:
223, 313; 154, 174; 130, 112.
"""


@dataclass
class State:
    """A cell's output (N, C, H, W), channels-last, and what both cells after it start with: its ReLU."""

    maps: Tensor
    rectified: Tensor

    @staticmethod
    def of(maps: Tensor) -> "State":
        return State(maps, F.relu(maps))


class FoldedLowering:
    def __init__(self, small: Small = SMALL) -> None:
        keep_freed_memory()
        self.small = small
        self.descriptions: WeakKeyDictionary[SearchCell, CellDescription] = WeakKeyDictionary()

    def stem(self, stem: nn.Sequential, images: Tensor) -> State:
        convolution, norm = stem
        assert isinstance(norm, nn.BatchNorm2d)
        output = convolution(images.contiguous(memory_format=torch.channels_last))
        return State.of(maps(normalised(rows(output), norm), output))

    def cell(self, cell: SearchCell, older: State, newer: State, weights: Tensor) -> State:
        if cell not in self.descriptions:
            self.descriptions[cell] = CellDescription(cell)
        inputs = preprocess(cell.preprocess_older, older.rectified), preprocess(cell.preprocess_newer, newer.rectified)
        return State.of(folded_cell(self.descriptions[cell], self.small, *inputs, weights))

    def pooled(self, state: State) -> Tensor:
        return rows(state.maps).view(len(state.maps), -1, state.maps.shape[1]).mean(dim=1)

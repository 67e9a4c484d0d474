"""The steps of an epoch: on a CPU one call after the other, on a GPU replayed from one CUDA graph.

A step of the super-network is thousands of small kernels; launched one by one they keep a GPU waiting for Python. The
graph holds all of it, batches and augmentation, alpha step and weight step, and is recorded once: learning rates and
mixing ratio are tensors that change in place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from tailnas.batches.batches import Batches
from tailnas.search.bilevel import Bilevel

EAGER_STEPS = 3
"""Real steps before recording: they create optimiser state and let libraries choose their algorithms."""


class StepRunner:
    """Runs epochs of `bilevel.step` on batches of the weight half and of the architecture half, one source per branch.

    cuda_graph: record the step on a GPU; of no effect on a CPU, and where images do not fit the device. Where recording
    fails the steps go on one by one.
    """

    def __init__(
        self,
        bilevel: Bilevel,
        weight_batches: Sequence[Batches],
        architecture_batches: Sequence[Batches],
        *,
        cuda_graph: bool,
    ) -> None:
        self.bilevel = bilevel
        self.sources = [*weight_batches, *architecture_batches]
        self.branches = len(weight_batches)
        on_device = all(source.data.on_device for source in self.sources)
        self._recording = cuda_graph and on_device and self.sources[0].data.device.type == "cuda"
        self._eager_steps = 0
        self._resting = bilevel.resting
        self._graph: torch.cuda.CUDAGraph | None = None
        self._rows: list[Tensor] = []
        self._losses: Mapping[str, Tensor] = {}

    def epoch(self, steps: int, step_done: Callable[[], None]) -> list[dict[str, Tensor]]:
        """Run `steps` steps; returns the losses of each, unread."""
        plans = [source.plan(steps) for source in self.sources]
        if self.bilevel.resting != self._resting:  # another step: what was recorded is no longer it
            self._graph, self._eager_steps, self._resting = None, 0, self.bilevel.resting
        losses = []
        for step in range(steps):
            self.bilevel.objective.relaxation.start_step(step)
            losses.append(self._step([plan.steps[step] for plan in plans]))
            step_done()
        return losses

    def _step(self, rows: list[Tensor]) -> dict[str, Tensor]:
        if self._graph is None and self._recording and self._eager_steps >= EAGER_STEPS:
            self._record(rows)
        if self._graph is not None:
            for held, row in zip(self._rows, rows, strict=True):
                held.copy_(row)
            self._graph.replay()
            return {name: loss.clone() for name, loss in self._losses.items()}
        self._eager_steps += 1
        if not self._recording:
            return self._made_and_done(rows)
        # Recording needs whatever the step leaves behind to be made on a stream that is not the default one.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            losses = self._made_and_done(rows)
        torch.cuda.current_stream().wait_stream(stream)
        return losses

    def _made_and_done(self, rows: list[Tensor]) -> dict[str, Tensor]:
        batches = [source.make(row) for source, row in zip(self.sources, rows, strict=True)]
        return self.bilevel.step(tuple(batches[: self.branches]), tuple(batches[self.branches :]))

    def _record(self, rows: list[Tensor]) -> None:
        self._rows = [row.clone() for row in rows]
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._losses = self._made_and_done(self._rows)
            self._graph = graph
        except RuntimeError as error:
            self._recording = False
            print(f"search: no CUDA graph, steps run one by one ({str(error).splitlines()[0]})", file=sys.stderr)

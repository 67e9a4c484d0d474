"""Accuracy against the mixing ratio at inference (HLS, 2406.07028, figure 4): free, since features are the same."""

from __future__ import annotations

import torch

from tailnas.batches.batches import sequential_batches
from tailnas.batches.device_images import DeviceImages
from tailnas.imbalance.accuracy import balanced_accuracy
from tailnas.search.objective import TwoBranch
from tailnas.search.relaxation import Alphas
from tailnas.search.task import SearchTask
from tailnas.training.checkpoint import Row

RATIOS = 21
"""Mixing ratios from 0, the class branch alone, to 1, the instance branch alone."""


@torch.no_grad()
def mixing_ratio_sweep(
    task: SearchTask, objective: TwoBranch, alphas: Alphas, images: DeviceImages | None = None
) -> list[Row]:
    """Balanced accuracy of the mixed outputs on `images`, by default the architecture half, for each of RATIOS ratios.

    The alphas have seen the architecture half. The network is in eval mode afterwards.
    """
    objective.network.eval()
    data = task.architecture_half if images is None else images
    weights = objective.mixture(alphas)
    ratios = torch.linspace(0, 1, RATIOS, device=task.device)
    pairs = [
        (objective.network.predict_logits(batch, weights, ratios[:, None, None], objective.mix).argmax(2), labels)
        for batch, labels in sequential_batches(data, 2 * task.training.batch_size, task.normalisation)
    ]
    predictions, labels = torch.cat([found for found, _ in pairs], dim=1), torch.cat([true for _, true in pairs])
    return [
        {"mixing_ratio": ratio, "balanced_accuracy": balanced_accuracy(labels, predicted, task.num_classes)}
        for ratio, predicted in zip(ratios.tolist(), predictions, strict=True)
    ]

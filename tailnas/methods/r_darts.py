"""R-DARTS' early stopping (1909.09656, section 4.3): the search ends before the Hessian's eigenvalue takes off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pydantic import Field

from tailnas.foundation.settings import Count, Section, Share
from tailnas.search.branches import Branches, Single, relaxed_search
from tailnas.search.cost import Cost, mixture_multiply_adds
from tailnas.search.method import pretrained_mixture
from tailnas.search.relaxation import Relaxation
from tailnas.search.task import SearchResult, SearchTask
from tailnas.training.checkpoint import Row
from tailnas.training.settings import NetworkTraining

start = pretrained_mixture
EIGENVALUE = "hessian_eigenvalue"


class Settings(Section):
    """DARTS that goes back to the last epoch in which the validation loss was flat."""

    branches: Branches = Field(description="One branch, or two.")
    window: Count = Field(
        description="Epochs that eigenvalues are averaged over, and that are compared across; 5 in the paper."
    )
    ratio: Share = Field(
        description="The search ends where the mean eigenvalue of a window ago is less than this share of the present "
        "one; 0.75 in the paper."
    )


def warnings(settings: Settings, training: NetworkTraining) -> Iterator[str]:
    """The rule compares two whole windows of epochs."""
    if training.epochs < 2 * settings.window:
        yield (
            f"search.r_darts.window: {settings.window} with search.training.epochs {training.epochs} never ends a "
            f"search early, which is darts; from {2 * settings.window} epochs it may"
        )


def window_means(eigenvalues: Sequence[float], window: int) -> list[float]:
    """Means over the last `window` epochs, or as many as there are, after each epoch."""
    return [sum(eigenvalues[max(0, end - window) : end]) / min(window, end) for end in range(1, len(eigenvalues) + 1)]


def stopping_epoch(eigenvalues: Sequence[float], window: int, ratio: float) -> int | None:
    """The epoch (from 1) to go back to, `window` before the first with mean(before) / mean(now) < ratio, or None.

    Both means are over whole windows, so that no epoch before `window` is gone back to: the alphas have hardly moved
    by then.
    """
    means = window_means(eigenvalues, window)
    for now in range(2 * window - 1, len(means)):
        if means[now - window] < ratio * means[now]:
            return now + 1 - window
    return None


def with_products(task: SearchTask, settings: Settings, result: SearchResult) -> Cost:
    """The cost with that of the eigenvalues, which the method needs: of each, a batch of the architecture half per
    branch goes forward and back for the gradient, and once more for each Hessian-vector product.
    """
    batch = task.batches("architecture", ["instance"])[0].batch_size
    branches = 1 if isinstance(settings.branches, Single) else 2
    passes = branches * batch * sum(1 + int(row["hessian_products"]) for row in result.history)
    shape = task.weight_half.images.shape
    return replace(
        result.cost,
        trained_images=result.cost.trained_images + passes,
        total_multiply_adds=result.cost.total_multiply_adds
        + passes * mixture_multiply_adds(task.space, task.num_classes, shape[1], shape[-1]),
    )


def search(task: SearchTask, settings: Settings) -> SearchResult:
    def found(history: Sequence[Row]) -> int | None:
        return stopping_epoch([float(row[EIGENVALUE]) for row in history], settings.window, settings.ratio)

    watched = replace(task, bilevel=task.bilevel.model_copy(update={"hessian": True}))
    result = relaxed_search(watched, settings.branches, Relaxation(), stop=lambda history: found(history) is not None)
    kept = found(result.history) or len(result.history)
    means = window_means([float(row[EIGENVALUE]) for row in result.history], settings.window)
    eigenvalues: list[Row] = [
        {
            "epoch": row["epoch"],
            EIGENVALUE: row[EIGENVALUE],
            "window_mean": mean,
            "kept": int(int(row["epoch"]) <= kept),
        }
        for row, mean in zip(result.history, means, strict=True)
    ]
    assert result.alphas is not None
    return replace(
        result,
        cost=with_products(watched, settings, result),
        history=result.history[:kept],
        alphas={name: values[: kept + 1] for name, values in result.alphas.items()},
        tables={**result.tables, "eigenvalues": eigenvalues},
    )

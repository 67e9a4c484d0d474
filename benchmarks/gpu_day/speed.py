"""The step of tailnas against the plain one, in every order and precision, and a whole search at CIFAR-10's size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.cases import Case, size
from benchmarks.ceilings import ceilings
from benchmarks.compare import compare
from benchmarks.gpu_day.data import drawn, long_tail, on_device, photographs, preset, ready, search_task
from benchmarks.gpu_day.results import Day, Part, in_one_go
from benchmarks.gpu_day.timed_loop import TimedLoop
from benchmarks.search_step import QUICK
from benchmarks.worker import Worker
from tailnas.data.split_file import HALVES
from tailnas.imbalance.accuracy import balanced_accuracy
from tailnas.methods import darts
from tailnas.training.checkpoint import Row, Stateful

SIZES = "16x8x64x32", "16x8x32x32"
STEPS = "first", "second", "bbn_hls"
PRECISIONS = "float32", "tf32", "bf16"
CIFAR10_TRAIN = 50_000
SHORT_EPOCHS = 10
DARTS = darts.Settings(head="shared")


def speed_parts(day: Day) -> dict[str, Part]:
    """Steps of the published size with the batch of DARTS, 64, then 32; float32 first."""
    if day.miniature:
        return {"float32 ceilings": Part(in_one_go(dict)), **_cases(day, QUICK, "first", "float32", 0)}
    parts: dict[str, Part] = {}
    for precision in PRECISIONS:
        parts[f"{precision} ceilings"] = Part(in_one_go(_ceilings, day, precision))
    for precision in PRECISIONS:
        for step in STEPS if precision == "float32" else STEPS[:1]:
            parts |= _cases(day, SIZES[0], step, precision, 20)
    for step in STEPS[:2]:
        parts |= _cases(day, SIZES[1], step, "float32", 15)
    parts["where a first-order step's time goes"] = Part(in_one_go(_where, day))
    return parts


def _ceilings(day: Day, precision: str) -> dict[str, Any]:
    return ceilings(ready(day, precision), precision)


def _cases(day: Day, text: str, step: str, precision: str, seconds: float) -> dict[str, Part]:
    case = Case(step, *size(text))

    def measured(_: Any, note: Any) -> dict[str, Any]:
        result = compare(case, day.device, 1, precision, seconds)
        return {name: rates(row) if isinstance(row, dict) and "seconds" in row else row for name, row in result.items()}

    return {f"{precision} {step} {text}": Part(measured, 4 * seconds + 20 * (not day.miniature))}


def rates(row: Mapping[str, Any]) -> dict[str, Any]:
    """A side's row without its single times, with FLOP/s and bytes/s."""
    kept = {name: value for name, value in row.items() if name != "seconds"}
    return kept | {
        "flops_per_second": 2 * row["multiply_adds"] / row["seconds_min"],
        "bytes_per_second": row["bytes_touched"] / row["seconds_min"],
    }


def _where(day: Day) -> list[dict[str, Any]]:
    with Worker("tailnas", Case("first", *size(SIZES[0])), day.device, 1, "float32") as worker:
        return worker.where()[:15]


def speed_headline(results: Mapping[str, Any]) -> str:
    shown = []
    for key, result in results.items():
        if "ratio" in result:
            row, ratio = result["tailnas"], result["ratio"]
            shown.append(
                f"{key.rsplit(' ', 1)[0]} {1e3 * row['seconds_median']:.0f} ms, {ratio['speed_median']:.1f}x, "
                f"memory {ratio['memory']:.2f}"
            )
    return "; ".join(shown[:5])


def whole_search_parts(day: Day) -> dict[str, Part]:
    return {"darts, 50 epochs, 25,000 + 25,000 images": Part(lambda known, note: whole_search(day, known, note), 20)}


def whole_search(day: Day, known: Any, note: Any) -> dict[str, Any]:
    """DARTS with the settings of the preset on as many images as CIFAR-10 has, drawn from the photographs with
    replacement: its seconds are those of CIFAR-10, its accuracy means nothing.
    """
    device = ready(day)
    params, data = preset(day), photographs(day)
    each = 40 if day.miniature else CIFAR10_TRAIN // 2
    halves = [on_device(*drawn(data, each, seed), device) for seed in range(2)]
    seconds: dict[str, float] = dict((known or {}).get("seconds", {}))

    def epoch_done(row: Row, parts: Mapping[str, Stateful]) -> Row:
        seconds[str(row["epoch"])] = round(float(row["seconds"]), 3)
        note({"epochs": len(seconds), "seconds": seconds})
        return {}

    loop = TimedLoop("DARTS", day, "whole-search", epoch_done)
    darts.search(search_task(day, params, halves, 0, loop), DARTS)
    memory = torch.cuda.max_memory_allocated() if day.device != "cpu" else 0
    return {"epochs": len(seconds), "total_seconds": sum(seconds.values()), "peak_memory": memory, "seconds": seconds}


def whole_search_headline(results: Mapping[str, Any]) -> str:
    for result in results.values():
        total = sum(result["seconds"].values())
        return f"{result['epochs']} epochs in {total:.0f} s, {total / max(1, result['epochs']):.1f} s per epoch"
    return ""


def precision_parts(day: Day) -> dict[str, Part]:
    """Float32 with two seeds is the yardstick for what tf32 and bf16 change."""
    runs = [("float32", 0), ("float32", 1)]
    if day.device != "cpu":
        runs = [("float32", 0), ("bf16", 0), ("tf32", 0), ("float32", 1), ("bf16", 1), ("tf32", 1)]
    return {
        f"{precision} seed {seed}": Part(in_one_go(short_search, day, precision, seed), 30) for precision, seed in runs
    }


def short_search(day: Day, precision: str, seed: int) -> dict[str, Any]:
    """DARTS for ten epochs on the long-tailed photographs; accuracy on the test part, which the search never saw."""
    from tailnas.batches.batches import sequential_batches
    from tailnas.batches.device_images import Normalisation
    from tailnas.space.supernet import SuperNet

    device = ready(day, precision)
    params, data = preset(day), photographs(day)
    training = params.search.training.model_copy(
        update={"precision": precision, "epochs": 2 if day.miniature else SHORT_EPOCHS}
    )
    params = params.model_copy(update={"search": params.search.model_copy(update={"training": training})})
    split = long_tail(day, data, 0)
    rows = [split.half(half) for half in HALVES]
    halves = [on_device(data.train_images[some], data.train_labels[some], device) for some in rows]
    loop = TimedLoop(f"{precision} seed {seed}", day, f"precision-{precision}-{seed}")
    result = darts.search(search_task(day, params, halves, seed, loop), DARTS)
    network, last = result.network, result.history[-1]
    assert isinstance(network, SuperNet) and result.alphas is not None
    alphas = {name: values[-1].to(device) for name, values in result.alphas.items()}
    network.eval()
    test = on_device(data.test_images, data.test_labels, device)
    with torch.no_grad():
        predicted = [
            network(images, alphas).argmax(1)
            for images, _ in sequential_batches(test, 256, Normalisation.of(halves[0].images))
        ]
    return {
        "seconds_per_epoch": min(float(row["seconds"]) for row in result.history),
        "loss": last["loss"],
        "search_balanced_accuracy": last["balanced_accuracy"],
        "test_balanced_accuracy": balanced_accuracy(test.labels, torch.cat(predicted), len(data.classes)),
        "genotype": last["genotype"],
    }


def precision_headline(results: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{key.replace(' seed', '')}: {100 * row['test_balanced_accuracy']:.1f}%, {row['seconds_per_epoch']:.1f} s"
        for key, row in results.items()
    )

"""ResNet-32 on CIFAR-10-LT, several networks at once on one card, each in a process of its own."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.gpu_day.data import long_tail, on_device, photographs, preset, ready
from benchmarks.gpu_day.results import Day, OutOfTime, Part, in_one_go, write_json
from benchmarks.gpu_day.timed_loop import TimedLoop
from tailnas.batches.device_images import Normalisation
from tailnas.evaluate.measurement import predict
from tailnas.evaluate.metrics import evaluate_predictions
from tailnas.genotype.genotype import Genotype
from tailnas.retrain.retraining import retrain
from tailnas.space.network import Network
from tailnas.training.checkpoint import Row, Stateful

ARMS = {
    "cross-entropy": "resnet32-ce",
    "LDAM-DRW": "resnet32-ldam-drw",
    "mixup-DRW": "resnet32-mixup-drw",
}
"""Each with its preset."""
SEEDS = (0, 1, 2)
PUBLISHED = {"cross-entropy": 70.4, "LDAM-DRW": 77.0, "mixup-DRW": 82.1}
"""Accuracy of the best epoch, percent; the presets give the sources."""
AT_ONCE = (1, 2, 4, 8, 12)
ENOUGH = 0.95
"""Share of the best throughput with which fewer networks at once are as good."""


def train(day: Day, arm: str, seed: int, epochs: int | None, name: str, answer: Path) -> dict[str, Any]:
    """Train one network by the retraining of the pipeline; after each epoch it is measured on the test part.

    epochs: instead of those of the preset, and nothing is measured; None: the preset's. answer: a file that holds the
    rows so far. Raises OutOfTime.
    """
    settings, data = preset(day, ARMS[arm]).retrain, photographs(day)
    if epochs is not None:
        training = settings.training.model_copy(update={"epochs": epochs})
        settings = settings.model_copy(update={"training": training})
    device = ready(day, settings.training.precision)
    split = long_tail(day, data, seed)
    images = on_device(data.train_images[split.indices], data.train_labels[split.indices], device)
    normalisation = Normalisation.of(images.images)
    counts = split.counts[:, 0].tolist()

    def measured(network: Stateful) -> dict[str, Any]:
        assert isinstance(network, Network)
        network.normalisation = (normalisation.mean, normalisation.std)
        return evaluate_predictions(predict(network, data.test_images, 500), data.test_labels, counts, 15)

    rows: list[Row] = json.loads(answer.read_text())["rows"] if answer.exists() else []

    def epoch_done(row: Row, parts: Mapping[str, Stateful]) -> Row:
        more: Row = {"ended": time.time()}
        if epochs is None:
            found = measured(parts["network"])
            more |= {name: round(float(found[name]), 4) for name in ("top1", "balanced_accuracy")}
        rows[int(row["epoch"]) - 1 :] = [row | more]
        write_json(answer, {"rows": rows})
        return more

    loop = TimedLoop(name, day, name, epoch_done)
    network, _ = retrain(settings, Genotype(network="resnet32"), images, normalisation, len(data.classes), seed, loop)
    metrics = measured(network) if epochs is None else {}
    answered = {"rows": rows, "metrics": metrics, "images": len(images), "batch": settings.training.batch_size}
    write_json(answer, answered)
    return answered


def several(
    networks: Mapping[str, Callable[..., Any]], arguments: Mapping[str, tuple[Any, ...]], at_once: int
) -> tuple[dict[str, Any], list[Exception]]:
    """Results by name, and what failed, of functions that each run in one of `at_once` processes."""
    done: dict[str, Any] = {}
    failures: list[Exception] = []
    with ProcessPoolExecutor(at_once, mp_context=multiprocessing.get_context("spawn")) as pool:
        running: dict[Future[Any], str] = {pool.submit(networks[name], *arguments[name]): name for name in networks}
        while running:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                name = running.pop(future)
                error = future.exception()
                if isinstance(error, Exception):
                    failures.append(error)
                else:
                    done[name] = future.result()
    return done, failures


def sharing_parts(day: Day) -> dict[str, Part]:
    counts = AT_ONCE[:2] if day.miniature else AT_ONCE
    return {f"{count} at once": Part(in_one_go(shared_by, day, count), 40) for count in counts}


def shared_by(day: Day, count: int) -> dict[str, Any]:
    """Images per second of `count` networks together, while all of them train."""
    epochs = 2 if day.miniature else 6
    answers = [day.folder / "sharing" / f"{count}-{index}.json" for index in range(count)]
    for index, answer in enumerate(answers):
        answer.unlink(missing_ok=True)
        (day.folder / "checkpoints" / f"sharing-{count}-{index}.pt").unlink(missing_ok=True)
    names = [f"sharing-{count}-{index}" for index in range(count)]
    functions = dict.fromkeys(names, train)
    arguments = {name: (day, "cross-entropy", index, epochs, name, answers[index]) for index, name in enumerate(names)}
    found, failures = several(functions, arguments, count)
    for failure in failures:
        raise failure
    ends = [[row["ended"] for row in answer["rows"]] for answer in found.values()]
    begun, ended = max(times[0] for times in ends), min(times[-1] for times in ends)
    epochs_between = sum(sum(begun < moment <= ended for moment in times) for times in ends)
    images = next(iter(found.values()))["images"]
    lasted = max(ended - begun, 1e-3)
    return {"images_per_second": epochs_between * images / lasted, "seconds": lasted}


def best_sharing(results: Mapping[str, Any]) -> int:
    """The fewest networks at once that reach the throughput of the best; 4 where nothing was measured."""
    rates = {int(key.split()[0]): row["images_per_second"] for key, row in results.items()}
    return min((count for count, rate in rates.items() if rate >= ENOUGH * max(rates.values())), default=4)


def sharing_headline(results: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{key.split()[0]}: {row['images_per_second']:,.0f}" for key, row in results.items())
    return f"ResNet-32 images/s by networks at once {shown}; best {best_sharing(results)}"


def resnet_parts(day: Day) -> dict[str, Part]:
    return {"networks": Part(lambda known, note: all_networks(day, note), 40)}


def all_networks(day: Day, note: Callable[[Any], None]) -> dict[str, Any]:
    arms, seeds = (list(ARMS)[:2], SEEDS[:1]) if day.miniature else (list(ARMS), SEEDS)
    names = {f"{arm} seed {seed}": (arm, seed) for seed in seeds for arm in arms}
    answers = {name: day.folder / "resnet" / f"{name.replace(' ', '-')}.json" for name in names}
    left = {name: key for name, key in names.items() if not (_read(answers[name]) or {}).get("metrics")}
    functions = dict.fromkeys(left, train)
    arguments = {name: (day, arm, seed, None, answers[name].stem, answers[name]) for name, (arm, seed) in left.items()}
    _, failures = several(functions, arguments, max(1, day.at_once))
    summary = {name: summarised(answer) for name, path in answers.items() if (answer := _read(path)) is not None}
    note(summary)
    for failure in sorted(failures, key=lambda error: isinstance(error, OutOfTime)):
        raise failure
    return summary


def _read(path: Path) -> dict[str, Any] | None:
    return dict(json.loads(path.read_text())) if path.exists() else None


def summarised(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Accuracy on the test part, in percent: of the last epoch, and of the best, which only hindsight chooses."""
    rows = answer["rows"]
    best = max(rows, key=lambda row: row["top1"])
    return {
        "epochs": len(rows),
        "last": 100 * rows[-1]["top1"],
        "best": 100 * best["top1"],
        "best_epoch": best["epoch"],
        "seconds_per_epoch": mean(row["seconds"] for row in rows),
        "curve": [round(100 * row["top1"], 2) for row in rows],
        "metrics": answer.get("metrics", {}),
    }


def resnet_headline(results: Mapping[str, Any]) -> str:
    shown = []
    rows = results.get("networks", {})
    for arm in ARMS:
        ended = [row for name, row in rows.items() if name.startswith(arm) and row["metrics"]]
        if ended:
            last, best = (mean(row[key] for row in ended) for key in ("last", "best"))
            shown.append(f"{arm} {last:.1f}, best epoch {best:.1f} (published {PUBLISHED[arm]}), {len(ended)} seeds")
    return "; ".join(shown)

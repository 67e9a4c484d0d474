"""What the mixing ratio does to accuracy (HLS, 2406.07028, figure 4) and to the alphas (figure 5).

    python -m benchmarks.mixing presets/mixing.yaml --output mixing

Searches with two branches, with every seed of the study: at constant mixing ratios, under every schedule, and with loss
weighting alone, learning rates alone (HLS), both and neither. `travel.csv` has how far the softmax weights of each
component moved; `accuracy.csv` the super-network's balanced accuracy on the target's test images, which no search has
seen, for each mixing ratio at inference; `mixing.png` draws them. Every finished search is a row in the output folder;
started again, the command goes on after the last one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.output import claim
from benchmarks.target import Target, balanced_source, pretrained
from tailnas.errors import UserError
from tailnas.evaluation.svg import report_style
from tailnas.imbalance.mixing import MIXING_SCHEDULES
from tailnas.params import Params, load_params
from tailnas.search.objective import TwoBranch
from tailnas.search.run import bilevel_search
from tailnas.search.sweep import mixing_ratio_sweep
from tailnas.search.task import SearchTask
from tailnas.training.device import prepare

CONSTANTS = (0.0, 0.25, 0.5, 0.75, 1.0)
HALVES = ("loss weighting alone", "learning rates alone", "both", "neither")


class EvenLoss(TwoBranch):
    """Both branches weigh one half in the loss, whatever the mixing ratio says to the learning rates."""

    def set_mixing_ratio(self, ratio: float) -> None:
        super().set_mixing_ratio(0.5)


@dataclass(frozen=True)
class Variant:
    """A search: schedule of the mixing ratio (`m` where it is constant), and what follows the schedule."""

    name: str
    schedule: str
    m: float = 0.5
    weighting: bool = True
    rates: bool = False

    def objective(self, task: SearchTask) -> TwoBranch:
        kind = TwoBranch if self.weighting else EvenLoss
        return kind(task.two_branch(), task.settings.mix, task.settings.precision)


def variants(schedule: str) -> list[Variant]:
    """All searches; what is compared in HALVES follows `schedule`."""
    constant = [Variant(f"constant {m:g}", "constant", m) for m in CONSTANTS]
    scheduled = [Variant(name, name) for name in MIXING_SCHEDULES if name != "constant"]
    halves = [
        Variant(name, schedule, weighting=weighting, rates=rates)
        for name, weighting, rates in zip(HALVES, (True, False, True, False), (False, True, True, False), strict=True)
    ]
    return constant + scheduled + halves


def searched(target: Target, variant: Variant, task: SearchTask) -> dict[str, Any]:
    """Travel of each component's softmax weights, and test accuracy against the mixing ratio at inference."""
    objective = variant.objective(task)
    how = "mixing" if variant.rates else "constant"
    result = bilevel_search(task, objective, ["instance", "reversed"], heads=how, backbone=how)
    alphas = {name: values[-1].to(target.device) for name, values in result.alphas.items()}
    weights = {name: values.double().softmax(-1) for name, values in result.alphas.items()}
    return {
        "movement": {name: float((w[-1] - w[0]).abs().mean()) for name, w in weights.items()},
        "path": {name: float(w.diff(dim=0).abs().mean((1, 2)).sum()) for name, w in weights.items()},
        "accuracy": mixing_ratio_sweep(task, objective, alphas, target.test()),
    }


def fill(params: Params, target: Target, folder: Path) -> list[dict[str, Any]]:
    """Compute the searches that `searches.jsonl` in `folder` does not have yet; returns all."""
    file = folder / "searches.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    done = {(row["variant"], row["seed"]) for row in rows}
    origin = balanced_source(params, target.device)
    for seed in params.study.seeds:
        wanted = [v for v in variants(params.search.mixing_schedule) if (v.name, seed) not in done]
        weights = None
        if wanted and params.search.initialisation == "pretrained":
            weights = pretrained(params, origin, seed, "mixture", folder)
        for variant in wanted:
            settings = params.search.model_copy(
                update={"mixing_schedule": variant.schedule, "mixing_constant": variant.m}
            )
            found = searched(target, variant, target.task(settings, seed, weights, origin))
            rows.append({"variant": variant.name, "seed": seed, **found})
            with file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(rows[-1]) + "\n")
            at_half = found["accuracy"][len(found["accuracy"]) // 2]["balanced_accuracy"]
            print(f"{variant.name}, seed {seed}: balanced accuracy at 1/2 {at_half:.3f}", flush=True)
    return rows


def travel_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Mean and standard deviation over seeds of each component's movement and path, a row a variant and component."""
    long = pd.DataFrame(
        {"variant": row["variant"], "component": name, "movement": row["movement"][name], "path": row["path"][name]}
        for row in rows
        for name in row["movement"]
    )
    table = long.groupby(["variant", "component"], sort=False).agg(["mean", "std", "count"])
    table.columns = ["_".join(column) for column in table.columns]
    return table.drop(columns="path_count").rename(columns={"movement_count": "seeds"}).reset_index()


def accuracy_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Mean and standard deviation over seeds of the test accuracy, a row a variant and mixing ratio at inference."""
    long = pd.DataFrame({"variant": row["variant"], **point} for row in rows for point in row["accuracy"])
    table = long.groupby(["variant", "mixing_ratio"], sort=False)["balanced_accuracy"].agg(["mean", "std", "count"])
    return table.reset_index()


def figure(accuracy: pd.DataFrame, travel: pd.DataFrame, schedule: str) -> Figure:
    """Accuracy against the ratio at inference (constant ratios in training, then schedules), and travel."""
    drawn = Figure(figsize=(11.4, 7.4))
    (constants, schedules), (bars, _) = drawn.subplots(2, 2)
    for axes, names, title in (
        (constants, [f"constant {m:g}" for m in CONSTANTS], "Trained at a constant mixing ratio"),
        (schedules, [name for name in MIXING_SCHEDULES if name != "constant"], "Trained under a schedule"),
    ):
        for name in [name for name in names if name in set(accuracy["variant"])]:
            part = accuracy[accuracy["variant"] == name]
            axes.plot(part["mixing_ratio"], 100 * part["mean"], label=name)
        axes.set_title(title)
        axes.set_xlabel("mixing ratio at inference: 0 class branch, 1 instance branch")
        axes.set_ylabel("balanced accuracy of the super-network\non the test images, %")
        axes.legend()
    components = list(dict.fromkeys(travel["component"]))
    for position, half in enumerate(HALVES):
        part = travel[travel["variant"] == half].set_index("component").loc[components]
        places = [place + 0.2 * (position - 1.5) for place in range(len(components))]
        bars.bar(places, part["movement_mean"], 0.18, yerr=part["movement_std"].fillna(0), label=half)
    bars.set_xticks(range(len(components)), [name.replace("_", " ") for name in components])
    bars.set_title(f"How far the softmax weights moved, schedule {schedule}")
    bars.set_ylabel("mean change of a softmax weight")
    bars.legend()
    last = drawn.axes[3]
    part = accuracy[(accuracy["mixing_ratio"] == 0.5) & accuracy["variant"].str.startswith("constant")]
    ratios = part["variant"].str.removeprefix("constant ").astype(float)
    last.errorbar(ratios, 100 * part["mean"], 100 * part["std"].fillna(0), marker="o", capsize=3)
    last.set_title("Trained at a constant ratio, mixed evenly at inference")
    last.set_xlabel("mixing ratio in training; bars: standard deviation over seeds")
    last.set_ylabel("balanced accuracy, %")
    return drawn


def lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """What the tables say, for the terminal."""
    travel = travel_table(rows)
    for half in HALVES:
        part = travel[travel["variant"] == half]
        parts = (f"{row.component} {row.movement_mean:.4f} +- {row.movement_std:.4f}" for row in part.itertuples())
        yield f"{half:>22}: {', '.join(parts)}"
    accuracy = accuracy_table(rows)
    for name in dict.fromkeys(accuracy["variant"]):
        part = accuracy[accuracy["variant"] == name].reset_index(drop=True)
        best = part.iloc[int(part["mean"].argmax())]
        half = part[part["mixing_ratio"] == 0.5].iloc[0]
        yield (
            f"{name:>22}: balanced accuracy {100 * half['mean']:.1f} +- {100 * half['std']:.1f} at 1/2, "
            f"best {100 * best['mean']:.1f} at {best['mixing_ratio']:.2f}"
        )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", type=Path, help="a params.yaml; its first imbalance factor and all its seeds count")
    parser.add_argument("--output", type=Path, required=True, help="folder for tables and figure")
    args = parser.parse_args(arguments)
    try:
        params = load_params(args.params)
        device = prepare(params.runtime.device, params.runtime.threads, params.search.precision)
        target = Target.load(params, device)
        claim(args.output, params)
        rows = fill(params, target, args.output)
    except UserError as error:
        sys.exit(str(error))
    travel, accuracy = travel_table(rows), accuracy_table(rows)
    travel.to_csv(args.output / "travel.csv", index=False)
    accuracy.to_csv(args.output / "accuracy.csv", index=False)
    with report_style():
        figure(accuracy, travel, params.search.mixing_schedule).savefig(args.output / "mixing.png", dpi=130)
    print("\n".join(lines(rows)))


if __name__ == "__main__":
    main()

"""What the mixing ratio does to accuracy (HLS, 2406.07028, figure 4) and to the alphas (figure 5).

    python -m benchmarks.mixing presets/mixing.yaml --output mixing

Searches with two branches, with every seed of the study: at constant mixing ratios, under every schedule, and with loss
weighting alone, learning rates alone (HLS), both and neither. `travel.csv` has how far the softmax weights of each
component moved; `accuracy.csv` the super-network's balanced accuracy on the target's test images, which no search has
seen, for each mixing ratio at inference; `mixing.png` draws them. Mixing ratio and mix are those of `bbn_hls` where a
variant does not say otherwise. Every finished search is a row in the output folder; started again, the command goes on
after the last one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.output import claim
from benchmarks.target import Target, balanced_source, pretrained
from tailnas.foundation.errors import UserError
from tailnas.imbalance.settings import ConstantRatio, Mixing, MovingRatio
from tailnas.report.svg import report_style
from tailnas.search.architecture_rates import NamedRate
from tailnas.search.branches import SAMPLERS, Rated
from tailnas.search.objective import TwoBranch
from tailnas.search.run import bilevel_search
from tailnas.search.sweep import mixing_ratio_sweep
from tailnas.search.task import SearchResult, SearchTask
from tailnas.space.device import prepare
from tailnas.space.two_branch import Mix
from tailnas.validate.parameters import Params
from tailnas.validate.presets import load_preset

CONSTANTS = (0.0, 0.25, 0.5, 0.75, 1.0)
SCHEDULES = ("linear", "parabolic", "cosine", "smooth", "mirrored")
HALVES = ("loss weighting alone", "learning rates alone", "both", "neither")
NAMES = (*(f"constant {m:g}" for m in CONSTANTS), *SCHEDULES, *HALVES)


class EvenLoss(TwoBranch):
    """Both branches weigh one half in the loss, whatever the mixing ratio says to the learning rates."""

    def set_mixing_ratio(self, ratio: float) -> None:
        super().set_mixing_ratio(0.5)


@dataclass(frozen=True)
class Variant:
    """A search: its mixing ratio, and what follows it: the loss, the learning rates of the alphas."""

    name: str
    mixing: Mixing
    weighting: bool = True
    rates: bool = False

    def objective(self, task: SearchTask, mix: Mix) -> TwoBranch:
        kind = TwoBranch if self.weighting else EvenLoss
        return kind(task.two_branch(), mix, task.training.precision)

    def search(self, task: SearchTask, objective: TwoBranch) -> SearchResult:
        backbone = NamedRate(schedule="mixing" if self.rates else "constant")
        return bilevel_search(task, objective, SAMPLERS, self.mixing, heads=backbone.schedule, backbone=backbone)


def own_settings(params: Params) -> Rated:
    """Those of `bbn_hls`."""
    settings = params.search.method("bbn_hls")
    assert isinstance(settings, Rated)
    return settings


def variants(mixing: Mixing) -> list[Variant]:
    """All searches; what is compared in HALVES follows `mixing`, the others take its time."""
    constant = [
        Variant(f"constant {m:g}", ConstantRatio(schedule="constant", time=mixing.time, ratio=m)) for m in CONSTANTS
    ]
    scheduled = [
        Variant(name, MovingRatio.model_validate({"schedule": name, "time": mixing.time})) for name in SCHEDULES
    ]
    halves = [
        Variant(name, mixing, weighting=weighting, rates=rates)
        for name, weighting, rates in zip(HALVES, (True, False, True, False), (False, True, True, False), strict=True)
    ]
    return constant + scheduled + halves


def searched(target: Target, variant: Variant, task: SearchTask, mix: Mix) -> dict[str, Any]:
    """Travel of each component's softmax weights, and test accuracy against the mixing ratio at inference."""
    objective = variant.objective(task, mix)
    found = variant.search(task, objective).alphas
    assert found is not None
    alphas = {name: values[-1].to(target.device) for name, values in found.items()}
    weights = {name: values.double().softmax(-1) for name, values in found.items()}
    return {
        "movement": {name: float((w[-1] - w[0]).abs().mean()) for name, w in weights.items()},
        "path": {name: float(w.diff(dim=0).abs().mean((1, 2)).sum()) for name, w in weights.items()},
        "accuracy": mixing_ratio_sweep(task, objective, alphas, target.test()),
    }


def fill(params: Params, target: Target, folder: Path, names: Iterable[str]) -> list[dict[str, Any]]:
    """Compute the searches `names` that `searches.jsonl` in `folder` does not have yet; returns all."""
    settings = own_settings(params)
    file = folder / "searches.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    done = {(row["variant"], row["seed"]) for row in rows}
    origin = balanced_source(params, target.device)
    for seed in params.study.seeds:
        wanted = [v for v in variants(settings.mixing) if v.name in names and (v.name, seed) not in done]
        weights = None
        if wanted and params.search.bilevel.initialisation == "pretrained":
            weights = pretrained(params, origin, seed, "mixture", folder)
        for variant in wanted:
            found = searched(target, variant, target.task(seed, weights, origin), settings.mix)
            rows.append({"variant": variant.name, "seed": seed, **found})
            with file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(rows[-1]) + "\n")
            at_half = found["accuracy"][len(found["accuracy"]) // 2]["balanced_accuracy"]
            print(f"{variant.name}, seed {seed}: balanced accuracy at 1/2 {at_half:.3f}", flush=True)
    return rows


def travel_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Mean and standard deviation over seeds of each component's movement and path, per variant and component."""
    long = pd.DataFrame(
        {"variant": row["variant"], "component": name, "movement": row["movement"][name], "path": row["path"][name]}
        for row in rows
        for name in row["movement"]
    )
    table = long.groupby(["variant", "component"], sort=False).agg(["mean", "std", "count"])
    table.columns = ["_".join(column) for column in table.columns]
    return table.drop(columns="path_count").rename(columns={"movement_count": "seeds"}).reset_index()


def accuracy_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Mean and standard deviation over seeds of the test accuracy, per variant and mixing ratio at inference."""
    long = pd.DataFrame({"variant": row["variant"], **point} for row in rows for point in row["accuracy"])
    table = long.groupby(["variant", "mixing_ratio"], sort=False)["balanced_accuracy"].agg(["mean", "std", "count"])
    return table.reset_index()


def figure(accuracy: pd.DataFrame, travel: pd.DataFrame, schedule: str) -> Figure:
    """Accuracy against the ratio at inference (constant ratios in training, then schedules), and travel."""
    drawn = Figure(figsize=(11.4, 7.4))
    (constants, schedules), (bars, _) = drawn.subplots(2, 2)
    for axes, names, title in (
        (constants, [f"constant {m:g}" for m in CONSTANTS], "Trained at a constant mixing ratio"),
        (schedules, SCHEDULES, "Trained under a schedule"),
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
        part = travel[travel["variant"] == half].set_index("component").reindex(components)
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
    for half in [half for half in HALVES if half in set(travel["variant"])]:
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
    parser.add_argument("params", type=Path, help="a preset; its first imbalance factor and all its seeds count")
    parser.add_argument("--output", type=Path, required=True, help="folder for tables and figure")
    parser.add_argument("--variants", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    args = parser.parse_args(arguments)
    try:
        params = load_preset(args.params)
        device = prepare(params.runtime.device, params.runtime.threads, params.search.training.precision)
        target = Target.load(params, device)
        claim(args.output, params)
        rows = fill(params, target, args.output, args.variants)
    except UserError as error:
        sys.exit(str(error))
    travel, accuracy = travel_table(rows), accuracy_table(rows)
    travel.to_csv(args.output / "travel.csv", index=False)
    accuracy.to_csv(args.output / "accuracy.csv", index=False)
    with report_style():
        figure(accuracy, travel, own_settings(params).mixing.schedule).savefig(args.output / "mixing.png", dpi=130)
    print("\n".join(lines(rows)))


if __name__ == "__main__":
    main()

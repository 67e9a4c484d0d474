"""Does accuracy on balanced data predict accuracy on imbalanced data? (IMB-NAS, 2210.00136; its first claim.)

    python -m benchmarks.rank_correlation presets/rank-correlation.yaml --output rank-correlation
    python -m benchmarks.rank_correlation --table docs/results/cifar10-lt-rank-scores.csv    # what its rows say

Trains N random architectures alone, by the recipe of `retrain:`, on three training sets of the target: `balanced`,
`balanced_small` (balanced, as many images as the imbalanced set, else imbalance is confused with less data) and
`imbalanced`, with every seed of the study, and measures each on the balanced test set. Asked for with `--sets`,
`source` is the balanced data that super-networks are pretrained on: it tells what their own ranking (`none`) is worth.
Then scores the same architectures by each adaptation strategy of `imb_nas`, with BatchNorm statistics estimated anew
and without, and by the zero-cost proxies of `zero_cost`, on a batch as long-tailed as the data and on one whose classes
are alike. Prints rank correlations with bootstrap intervals over architectures: of scores with the accuracy alone (mean
over seeds), of the accuracies of one seed with those of another, which is the noise ceiling, of single trainings on two
sets with unlike seeds, which compare with it, and how far these fall short of it; and of the scores of one
super-network, or of one draw of weights and images, with those of another. Before them stands how far architectures
differ and how far two trainings of one do. Seeds count that have all architectures.

Every finished training is a row in the output folder; started again, the command goes on after the last one.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from benchmarks.correlation import (
    CORRELATIONS,
    Estimate,
    Scores,
    agreement,
    agreement_gain,
    correlation,
    crossed,
    deviations,
    gain,
    mean_of_largest,
    shortfall,
)
from benchmarks.evidence import markdown
from benchmarks.output import claim
from benchmarks.target import Target, balanced_source, pretrained, ranking_settings
from tailnas.batches.batches import sequential_batches
from tailnas.batches.device_images import Normalisation
from tailnas.foundation.errors import UserError
from tailnas.foundation.seeding import torch_generator
from tailnas.genotype.genotype import Genotype
from tailnas.imbalance.accuracy import balanced_accuracy
from tailnas.methods import zero_cost
from tailnas.methods.imb_nas import Scorer, source_scorer, target_scorer
from tailnas.retrain.retraining import retrain
from tailnas.search.adapt_paths import NotAdapted
from tailnas.search.candidates import RandomCandidates
from tailnas.search.task import Source
from tailnas.search.zero_cost import PROXIES
from tailnas.space.device import prepare
from tailnas.training.loop import InnerLoop
from tailnas.validate.parameters import Params
from tailnas.validate.presets import load_preset

TARGET_SETS = ("balanced", "balanced_small", "imbalanced")
SETS = (*TARGET_SETS, "source")
STRATEGIES = ("none", "head", "finetune", "scratch")
STATISTICS = ("anew", "shared")
BATCHES = {"instance": "long-tailed batch", "class_balanced": "balanced batch"}
"""Samplers of the proxies' batches."""
WITHOUT_IMAGES = ("synflow", "parameters")
COLUMNS = ("what", "how", "seed", "architecture", "score")

Key = tuple[str, str, int, int]
"""Training set, strategy or proxy; BatchNorm statistics of a strategy, sampler of a proxy; seed; architecture."""


class Table:
    """scores.csv: one row per finished score. Raises UserError where the file holds anything else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.scores: dict[Key, float] = {}
        try:
            with path.open(newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    key = (row["what"], row["how"], int(row["seed"]), int(row["architecture"]))
                    self.scores[key] = float(row["score"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: {error}; allowed: rows of {', '.join(COLUMNS)}") from None

    @staticmethod
    def at(path: Path) -> Table:
        """The table of this file, which is begun where it is missing."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
        return Table(path)

    def add(self, key: Key, score: float) -> None:
        self.scores[key] = score
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(",".join(map(str, (*key, score))) + "\n")

    def of(self, what: str, how: str, architectures: int) -> dict[int, Scores]:
        """Scores (architectures,) by seed, of the seeds that have all."""
        found: dict[int, dict[int, float]] = defaultdict(dict)
        for (name, way, seed, index), score in self.scores.items():
            if (name, way) == (what, how) and index < architectures:
                found[seed][index] = score
        whole = sorted(seed for seed, scores in found.items() if len(scores) == architectures)
        return {seed: np.array([found[seed][index] for index in range(architectures)]) for seed in whole}


@dataclass(frozen=True)
class Experiment:
    """What stays the same for all scores."""

    target: Target
    origin: Source
    architectures: list[Genotype]
    folder: Path

    @property
    def params(self) -> Params:
        return self.target.params

    def data(self, name: str, seed: int) -> Source:
        """Training images and test images of one of SETS."""
        if name == "source":
            return self.origin
        imbalanced = self.target.split(seed)
        if name == "imbalanced":
            chosen = imbalanced
        elif name == "balanced":
            chosen = self.target.balanced(seed, int(imbalanced.counts[:, 0].max()))
        else:
            chosen = self.target.balanced(seed, len(imbalanced.indices) // self.target.classes)
        return Source(self.target.images(chosen.indices), self.target.test())

    def alone(self, name: str, seed: int, index: int) -> float:
        """Balanced accuracy on the test set of one architecture trained alone."""
        data = self.data(name, seed)
        normalisation = Normalisation.of(data.train.images)
        classes = int(data.held_out.labels.max()) + 1
        loop = InnerLoop("retrain alone", lambda: None)
        architecture = self.architectures[index]
        network, _ = retrain(self.params.retrain, architecture, data.train, normalisation, classes, seed, loop)
        test = data.held_out
        with torch.no_grad():
            network.eval()
            logits = [network(batch) for batch, _ in sequential_batches(test, 256, normalisation)]
        return balanced_accuracy(test.labels, torch.cat(logits).argmax(1), classes)

    def by_proxy(self, proxy: str, sampler: str, seed: int, indices: Sequence[int]) -> Iterator[float]:
        """Scores of these architectures by a zero-cost proxy, as `zero_cost` gives them."""
        settings = self.params.search.method("zero_cost")
        assert isinstance(settings, zero_cost.Settings)
        task = self.target.task(seed, None, self.origin)
        batch = zero_cost.proxy_batch(task, settings.model_copy(update={"sampler": sampler or "instance"}))
        return (zero_cost.proxy_score(task, proxy, self.architectures[index], index, *batch) for index in indices)

    def scorers(self, strategy: str, seed: int) -> dict[str, Scorer]:
        """What scores architectures by `strategy`, with either kind of BatchNorm statistics."""
        weights = None
        if strategy != "scratch":
            weights = pretrained(self.params, self.origin, seed, "single", self.folder)
        settings = ranking_settings(self.params, strategy)
        task = self.target.task(seed, weights, self.origin)
        if isinstance(settings.adaptation, NotAdapted):
            anew = source_scorer(task, settings)[0]
        else:
            anew = target_scorer(task, settings, settings.adaptation)[0]
        shared = Scorer(anew.network, [], anew.data, anew.normalisation, anew.batch_size)
        return {"anew": anew, "shared": shared}


def random_architectures(count: int) -> list[Genotype]:
    """The first `count` of a fixed sequence of random genotypes, no two alike."""
    candidates = RandomCandidates(torch_generator(0, "rank correlation"))
    for _ in range(count):
        candidates.tell(candidates.propose(), 0.0)
    return [genotype for genotype, _ in candidates.scored]


def batches_of(proxy: str) -> tuple[str, ...]:
    """Samplers of the batches that a proxy is asked on; no name where images do not matter."""
    return ("",) if proxy in WITHOUT_IMAGES else tuple(BATCHES)


def fill(
    experiment: Experiment, table: Table, sets: Iterable[str], strategies: Iterable[str], proxies: Iterable[str]
) -> None:
    """Compute the scores that the table does not have yet."""
    seeds, architectures = experiment.params.study.seeds, range(len(experiment.architectures))
    work: list[Key] = [(name, "", seed, index) for name in sets for seed in seeds for index in architectures]
    for number, key in enumerate(work, 1):
        if key not in table.scores:
            name, _, seed, index = key
            table.add(key, experiment.alone(name, seed, index))
            done = f"({number}/{len(work)})"
            print(f"{name} seed {seed} architecture {index}: {table.scores[key]:.4f} {done}", flush=True)
    for strategy in strategies:
        for seed in seeds:
            keys = [(strategy, statistics, seed, index) for statistics in STATISTICS for index in architectures]
            if all(key in table.scores for key in keys):
                continue
            scorers = experiment.scorers(strategy, seed)
            for key in (key for key in keys if key not in table.scores):
                scored = scorers[key[1]](experiment.architectures[key[3]], 0, lambda: None)
                table.add(key, scored["balanced_accuracy"])
            print(f"scored by {strategy}, seed {seed}", flush=True)
    for proxy in proxies:
        for how in batches_of(proxy):
            for seed in seeds:
                missing = [index for index in architectures if (proxy, how, seed, index) not in table.scores]
                scores = experiment.by_proxy(proxy, how, seed, missing) if missing else iter(())
                for index, score in zip(missing, scores, strict=True):
                    table.add((proxy, how, seed, index), score)
                if missing:
                    print(f"scored by {proxy}{how and ', ' + BATCHES[how]}, seed {seed}", flush=True)


def results(table: Table, architectures: int) -> Iterator[tuple[str, str, Estimate]]:
    """What is correlated, how, and the estimate."""
    seen = {name: scores for name in SETS if (scores := table.of(name, "", architectures))}
    alone = {name: np.mean([*scores.values()], 0) for name, scores in seen.items()}
    for kind in CORRELATIONS:
        for first, second in combinations(seen, 2):
            about = f"{first} and {second}"
            yield about, kind, correlation(kind, alone[first], alone[second])
            if len(seen[first].keys() | seen[second].keys()) > 1:
                yield f"{about}: single trainings, unlike seeds", kind, crossed(kind, seen[first], seen[second])
            if len(seen[first]) > 1 and len(seen[second]) > 1:
                yield f"{about}: short of the noise ceilings", kind, shortfall(kind, seen[first], seen[second])
        for name, scores in seen.items():
            if len(scores) > 1:
                yield f"{name}: one seed and another (noise ceiling)", kind, agreement(kind, [*scores.values()])
        unadapted: dict[int, Scores] = {}
        for strategy in STRATEGIES:
            ways = [table.of(strategy, how, architectures) for how in STATISTICS]
            seeds = [seed for seed in ways[0] if seed in ways[1]]
            if not seeds:
                continue
            anew, shared = (np.array([way[seed] for seed in seeds]) for way in ways)
            for name in seen:
                yield f"{strategy} and {name}", kind, correlation(kind, anew, alone[name])
                yield f"{strategy} and {name}, shared statistics", kind, correlation(kind, shared, alone[name])
                yield f"{strategy} and {name}: gain by new statistics", kind, gain(kind, anew, shared, alone[name])
                if both := [seed for seed in seeds if seed in unadapted]:
                    better, worse = ([way[seed] for seed in both] for way in (ways[0], unadapted))
                    about = f"{strategy} and {name}: gain over {STRATEGIES[0]}"
                    yield about, kind, gain(kind, better, worse, alone[name])
            if strategy == STRATEGIES[0]:
                unadapted = ways[0]
            if len(seeds) > 1:
                yield f"{strategy}: one super-network and another", kind, agreement(kind, anew)
                yield f"{strategy}: one super-network and another, shared statistics", kind, agreement(kind, shared)
                about = f"{strategy}: one super-network and another, gain by new statistics"
                yield about, kind, agreement_gain(kind, anew, shared)
        for proxy in PROXIES:
            scored = {how: scores for how in batches_of(proxy) if (scores := table.of(proxy, how, architectures))}
            rows = {how: np.array([*scores.values()]) for how, scores in scored.items()}
            for how, found in rows.items():
                on = f", {BATCHES[how]}" if how else ""
                for name in seen:
                    yield f"{proxy} and {name}{on}", kind, correlation(kind, found, alone[name])
                if len(found) > 1:
                    yield f"{proxy}: one seed and another{on}", kind, agreement(kind, found)
            if len(rows) > 1:
                tailed, alike = rows.values()
                for name in seen:
                    yield f"{proxy} and {name}: gain by a balanced batch", kind, gain(kind, alike, tailed, alone[name])


def variation(table: Table, architectures: int) -> Iterator[list[str]]:
    """For each training set, in points: how architectures differ, how two trainings of one do, and what is to be won.

    The last column is what the best architecture is expected to lie above the mean, were all known without noise and
    normally distributed.
    """
    best = f"the best of {architectures} over the mean"
    yield ["accuracy alone", "seeds", "mean %", "sd of architectures", "sd of trainings of one", best]
    for name in SETS:
        if scores := table.of(name, "", architectures):
            points = 100 * np.array([*scores.values()])
            cells = [name, str(len(points)), f"{points.mean():.1f}"]
            if len(points) > 1:
                apart, again = deviations(points)
                largest = f"{mean_of_largest(architectures) * apart.value:+.1f}"
                cells += [*(f"{sd.value:.2f} [{sd.low:.2f}, {sd.high:.2f}]" for sd in (apart, again)), largest]
            yield [*cells, *[""] * (6 - len(cells))]


def shown(found: Iterable[tuple[str, str, Estimate]]) -> Iterator[list[str]]:
    """A row for everything that is correlated, a column for each kind of correlation."""
    yield ["", *CORRELATIONS, "architectures"]
    by_what: dict[str, dict[str, Estimate]] = defaultdict(dict)
    for what, kind, estimate in found:
        by_what[what][kind] = estimate
    for what, kinds in by_what.items():
        yield [what, *map(str, kinds.values()), str(next(iter(kinds.values())).n)]


def print_tables(table: Table, architectures: int) -> list[tuple[str, str, Estimate]]:
    """Print what varies and what is correlated; returns the latter."""
    found = list(results(table, architectures))
    print(f"{markdown(variation(table, architectures))}\n\n{markdown(shown(found))}")
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rank_correlation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "params", type=Path, nargs="?", help="a preset; its first imbalance factor and all its seeds count"
    )
    parser.add_argument("--output", type=Path, help="folder for scores.csv and correlations.csv")
    parser.add_argument("--table", type=Path, help="print what these rows say")
    parser.add_argument("--architectures", type=int, default=30)
    parser.add_argument("--sets", nargs="*", choices=SETS, default=TARGET_SETS)
    parser.add_argument("--strategies", nargs="*", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument("--proxies", nargs="*", choices=tuple(PROXIES), default=tuple(PROXIES))
    args = parser.parse_args(arguments)
    if args.table is None and (args.params is None or args.output is None):
        parser.error("allowed: a preset and --output, or --table")
    try:
        if args.table:
            table = Table(args.table)
            if not table.scores:
                raise UserError(f"{args.table}: no rows; allowed: scores.csv of an experiment")
            print_tables(table, 1 + max(index for _, _, _, index in table.scores))
            return
        params = load_preset(args.params)
        device = prepare(params.runtime.device, params.runtime.threads, params.retrain.training.precision)
        target, origin = Target.load(params, device), balanced_source(params, device)
        experiment = Experiment(target, origin, random_architectures(args.architectures), args.output)
        claim(args.output, params)
        table = Table.at(args.output / "scores.csv")
        fill(experiment, table, args.sets, args.strategies, args.proxies)
    except UserError as error:
        sys.exit(str(error))
    found = print_tables(table, args.architectures)
    lines = ["what,correlation,value,low,high,architectures"]
    for what, kind, estimate in found:
        lines.append(f'"{what}",{kind},{estimate.value},{estimate.low},{estimate.high},{estimate.n}')
    (args.output / "correlations.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

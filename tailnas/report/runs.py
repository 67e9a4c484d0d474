"""A study's results read from disk. A missing or damaged file is one line that names it.

Which runs there are comes from the study, never from what happens to lie on disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from reprlib import repr as short
from typing import Literal, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import NonNegativeInt, ValidationError

from tailnas.data.npy import read_npy
from tailnas.data.split_file import FOLD_FILE
from tailnas.evaluate.examples import IMAGES_FILE, TABLE_FILE
from tailnas.evaluate.intervals import wilson
from tailnas.evaluate.metrics import Groups, per_class_recall, shot_groups
from tailnas.foundation.errors import UserError
from tailnas.foundation.settings import NATURAL, Count, Section, Share, Study
from tailnas.genotype.found import ALPHAS_FILE, FOUND, GENOTYPE_FILE, Alphas, read_alphas, read_genotype
from tailnas.genotype.genotype import Genotype
from tailnas.report.calibration import Calibration

MODELS = ("retrained", "adapted")
Factor = int | float | str
"""An imbalance factor of the study, or `natural`."""


class Scores(Section):
    """Metrics of one network; a shot group without a class in the test set has none."""

    top1: Share
    balanced_accuracy: Share
    macro_f1: Share
    ece: Share
    many: Share | None
    medium: Share | None
    few: Share | None


METRICS = tuple(Scores.model_fields)
SINGLE_HISTORY = "single_path_history.csv"


class Evaluation(Section):
    """What metrics.json holds of a run."""

    retrained: Scores
    adapted: Scores
    intervals: dict[str, dict[str, list[Share] | None]]
    calibration: Calibration
    groups: Groups
    parameters: Count
    multiply_adds: Count
    test_images: Count


class Cost(Section, extra="ignore"):
    """What cost.json holds of a search, as far as the report shows it."""

    optimiser_steps: NonNegativeInt
    images: NonNegativeInt
    multiply_adds: NonNegativeInt
    pretrained: Literal["mixture", "single"] | None
    """The super-network that the search started from."""

    @property
    def total(self) -> int:
        """Multiply-adds of one image's forward pass, times the images seen."""
        return self.images * self.multiply_adds


class PretrainingCost(Section):
    """What cost.json holds of a pretraining: multiply-adds of the forward passes until either super-network."""

    mixture: NonNegativeInt
    single: NonNegativeInt | None


@dataclass(frozen=True)
class Pretraining:
    """One seed's super-networks: history of the mixture and, where single paths were trained, of those."""

    history: pd.DataFrame
    single: pd.DataFrame | None
    cost: PretrainingCost


_Kind = TypeVar("_Kind", bound=Section)


@dataclass(frozen=True)
class Run:
    """Everything the report shows of one run; K classes, fractions from 0 to 1."""

    method: str
    factor: Factor
    seed: int
    retrain_seed: int
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    """(K,) training images of each class, both search halves together."""
    metrics: dict[str, dict[str, float | None]]
    """For `retrained` and `adapted`: top1, balanced_accuracy, macro_f1, ece, many, medium, few."""
    intervals: dict[str, dict[str, list[float] | None]]
    """Likewise, 95 % intervals [low, high] of top1, balanced_accuracy, many, medium, few by the test images."""
    calibration: Calibration
    """Of the adapted network's probabilities, before and after its temperature."""
    groups: Groups
    parameters: int
    multiply_adds: int
    """Of one image's forward pass through the retrained network."""
    test_images: int
    recall: dict[str, NDArray[np.float64]]
    """For each model (K,); NaN for a class without test images."""
    confusion: dict[str, NDArray[np.int64]]
    """For each model (K, K), true classes in rows."""
    gained: NDArray[np.int64]
    """(K,) test images that adaptation put right."""
    lost: NDArray[np.int64]
    """(K,) test images that were right before adaptation alone."""
    genotype: Genotype
    search: pd.DataFrame
    sweep: pd.DataFrame | None
    """Columns mixing_ratio and balanced_accuracy of a search with two branches."""
    alphas: Alphas
    """For each component (epochs + 1, 14, 8); empty where nothing was searched."""
    cost: Cost
    retrain: pd.DataFrame
    adapt: pd.DataFrame
    examples: pd.DataFrame
    """What `tailnas.evaluate.examples` chose, row by row of `pictures`."""
    pictures: NDArray[np.uint8]
    """(rows, C, h, h)"""

    @property
    def name(self) -> str:
        """`bbn_hls-30-0-0`: the folder of the run."""
        return f"{self.search_name}-{self.retrain_seed}"

    @property
    def search_name(self) -> str:
        """`bbn_hls-30-0`: the folder of its search."""
        return run_name(self.method, self.factor, self.seed)

    @property
    def measured_factor(self) -> float:
        """Largest over smallest class size, as the split has it."""
        return max(self.counts) / min(self.counts)

    @property
    def tested(self) -> NDArray[np.int64]:
        """(K,) test images of each class."""
        images: NDArray[np.int64] = self.confusion["adapted"].sum(axis=1)
        return images

    def recall_intervals(self, model: str) -> NDArray[np.float64]:
        """(2, K) ends of Wilson's 95 % interval of each class's recall; NaN without test images."""
        ends = wilson(np.diag(self.confusion[model]), self.tested)
        return np.where(self.tested > 0, ends, np.nan)

    @property
    def searched(self) -> bool:
        """Whether alphas were trained; a random, ranked or published genotype has none."""
        return bool(self.alphas)


@dataclass(frozen=True)
class Results:
    """A study's runs in the study's order (factors, methods, seeds, retrain seeds), and each seed's pretraining."""

    methods: tuple[str, ...]
    factors: tuple[Factor, ...]
    seeds: tuple[int, ...]
    retrain_seeds: tuple[int, ...]
    runs: tuple[Run, ...]
    pretrain: dict[int, Pretraining]
    folds: bool = False
    """Whether each seed is a fold, tested on images of its own."""

    @property
    def searches(self) -> list[Run]:
        """The first run of each search."""
        return self.searches_of()

    def searches_of(self, method: str | None = None, factor: Factor | None = None) -> list[Run]:
        """The first run of each search of a method, a factor or both."""
        return [run for run in self.of(method, factor) if run.retrain_seed == self.retrain_seeds[0]]

    def pretraining_cost(self, run: Run) -> int:
        """Multiply-adds of the pretraining that the run's search started from, 0 where it needed none."""
        if run.cost.pretrained is None or run.seed not in self.pretrain:
            return 0
        return getattr(self.pretrain[run.seed].cost, run.cost.pretrained) or 0

    def title(self, factor: Factor) -> str:
        """What a factor is called: `Imbalance factor 30`, or the measured one where the data keeps its own."""
        return factor_title(factor, self.of(factor=factor)[0].measured_factor)

    def of(self, method: str | None = None, factor: Factor | None = None, seed: int | None = None) -> list[Run]:
        """The runs that match, in the study's order."""
        return [
            run
            for run in self.runs
            if method in (None, run.method) and factor in (None, run.factor) and seed in (None, run.seed)
        ]


def factor_title(factor: Factor, measured: float) -> str:
    """`Imbalance factor 30`, or `Imbalance factor 118 (the data's own)`. measured: largest over smallest class size."""
    return f"Imbalance factor {measured:.3g} (the data's own)" if factor == NATURAL else f"Imbalance factor {factor}"


def run_name(method: str, factor: Factor, seed: int) -> str:
    """`bbn_hls-30-0`: the folder of a search."""
    return f"{method}-{factor}-{seed}"


def read_results(results: Path, splits: Path, study: Study) -> Results:
    """Read the study's runs from `results/runs` and `splits`, and pretraining where `results/pretrain` exists.

    Raises UserError naming the file that is missing, damaged or does not fit the others.
    """
    runs = tuple(
        _read_run(results / "runs", splits, method, factor, seed, retrain_seed)
        for factor in study.imbalance_factors
        for method in study.methods
        for seed in study.seeds
        for retrain_seed in study.retrain_seeds
    )
    folder = results / "pretrain"
    pretrain = {seed: _read_pretraining(folder / f"seed{seed}") for seed in (study.seeds if folder.exists() else ())}
    return Results(
        methods=tuple(study.methods),
        factors=tuple(study.imbalance_factors),
        seeds=tuple(study.seeds),
        retrain_seeds=tuple(study.retrain_seeds),
        runs=runs,
        pretrain=pretrain,
        folds=(splits / f"if{study.imbalance_factors[0]}-seed{study.seeds[0]}" / FOLD_FILE).exists(),
    )


def _read_pretraining(folder: Path) -> Pretraining:
    single = folder / SINGLE_HISTORY
    columns = {"epoch": int, "loss": float, "balanced_accuracy": float, "guessing": float}
    return Pretraining(
        history=read_table(folder / "history.csv", columns),
        single=read_table(single, columns) if single.exists() else None,
        cost=read_json(folder / "cost.json", PretrainingCost),
    )


def _read_run(runs: Path, splits: Path, method: str, factor: Factor, seed: int, retrain_seed: int) -> Run:
    found_by = runs / run_name(method, factor, seed)
    run = runs / f"{found_by.name}-{retrain_seed}"
    search, evaluate = found_by / "search", run / "evaluate"
    split = splits / f"if{factor}-seed{seed}" / "counts.csv"
    classes = read_table(split, {"name": str, "total": int})
    counts = tuple(classes["total"].tolist())
    found = read_json(evaluate / "metrics.json", Evaluation)
    if found.groups != shot_groups(counts):
        raise UserError(f"{evaluate / 'metrics.json'}: groups: {short(found.groups)}; allowed: those of {split}")
    confusion = _read_confusion(evaluate / "confusion.csv", len(counts))
    gained, lost = _read_changes(evaluate / "per_class.csv", confusion)
    examples, pictures = _read_examples(evaluate, len(counts))
    history = read_table(search / "history.csv", {"epoch": int, "genotype": str})
    sweep = {"mixing_ratio": float, "balanced_accuracy": float}
    return Run(
        method=method,
        factor=factor,
        seed=seed,
        retrain_seed=retrain_seed,
        classes=tuple(classes["name"]),
        counts=counts,
        metrics={"retrained": found.retrained.model_dump(), "adapted": found.adapted.model_dump()},
        intervals=found.intervals,
        calibration=found.calibration,
        groups=found.groups,
        parameters=found.parameters,
        multiply_adds=found.multiply_adds,
        test_images=found.test_images,
        recall={model: per_class_recall(matrix) for model, matrix in confusion.items()},
        confusion=confusion,
        gained=gained,
        lost=lost,
        genotype=read_genotype(found_by / "derive" / GENOTYPE_FILE),
        search=history,
        sweep=read_table(search / "mixing_ratio.csv", sweep) if "mixing_ratio" in history else None,
        alphas=_read_alphas(search / FOUND / ALPHAS_FILE, history["epoch"].max()),
        cost=read_json(search / "cost.json", Cost),
        retrain=read_table(run / "retrain" / "history.csv", {"epoch": int, "loss": float}),
        adapt=read_table(run / "adapt" / "history.csv", {"epoch": int}),
        examples=examples,
        pictures=pictures,
    )


def read_table(path: Path, columns: Mapping[str, type]) -> pd.DataFrame:
    """A whole CSV file with at least `columns` of these types and numbers in all others. Raises UserError."""
    try:
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            raise ValueError("the last line has no end")
        # a class may be called "nan" or ""
        table = pd.read_csv(BytesIO(content), dtype=columns, keep_default_na="name" not in columns)
        if table.empty or not set(columns) <= set(table):
            raise ValueError(f"{len(table)} rows of {', '.join(map(str, table))}")
        for column in table.columns.difference(list(columns)):
            pd.to_numeric(table[column].replace("nan", np.nan))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {_line(error)}; allowed: an earlier stage's {', '.join(columns)}") from None
    return table


def read_json(path: Path, kind: type[_Kind]) -> _Kind:
    """A JSON file that holds a `kind`. Raises UserError."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"])) or "content"
        value = "missing" if problem["type"] == "missing" else short(problem["input"])
        allowed = problem["msg"].removeprefix("Input should be ")
        raise UserError(f"{path}: {where}: {value}; allowed: {allowed}") from None
    except OSError as error:
        raise UserError(f"{path}: {_line(error)}; allowed: the file that an earlier stage writes") from None


def _read_confusion(path: Path, num_classes: int) -> dict[str, NDArray[np.int64]]:
    table = read_table(path, {"model": str, "true": int, "predicted": int, "count": int})
    counts = table.set_index(["model", "true", "predicted"])["count"]
    if not counts.index.equals(pd.MultiIndex.from_product([MODELS, range(num_classes), range(num_classes)])):
        raise UserError(f"{path}: {len(counts)} rows; allowed: one per model and pair of the {num_classes} classes")
    matrices = counts.to_numpy(np.int64).reshape(len(MODELS), num_classes, num_classes)
    return dict(zip(MODELS, matrices, strict=True))


def _read_changes(path: Path, confusion: dict[str, NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    table = read_table(path, {"name": str, "gained": int, "lost": int})
    gained, lost = (table[column].to_numpy(np.int64) for column in ("gained", "lost"))
    before, after = (np.diag(confusion[model]) for model in MODELS)
    if len(gained) != len(after) or not np.array_equal(gained - lost, after - before):
        raise UserError(f"{path}: gained less lost; allowed: what confusion.csv says that adaptation changed")
    return gained, lost


def _read_examples(folder: Path, num_classes: int) -> tuple[pd.DataFrame, NDArray[np.uint8]]:
    columns: dict[str, type] = {"kind": str, "image": int, "label": int}
    for model in MODELS:
        columns |= {model: int, f"{model}_probability": float}
    table = read_table(folder / TABLE_FILE, columns)
    named = table[["label", *MODELS]].to_numpy()
    if named.min() < 0 or named.max() >= num_classes:
        raise UserError(f"{folder / TABLE_FILE}: class {named.max()}; allowed: 0 to {num_classes - 1}")
    return table, read_npy(folder / IMAGES_FILE, np.dtype(np.uint8), (len(table), None, None, None))


def _read_alphas(path: Path, epochs: int) -> Alphas:
    if not epochs:
        return {}
    alphas = read_alphas(path)
    if len(alphas["normal"]) != epochs + 1:
        raise UserError(f"{path}: {len(alphas['normal'])} rows; allowed: {epochs + 1}, as history.csv has epochs")
    return alphas


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

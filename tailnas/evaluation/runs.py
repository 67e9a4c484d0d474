"""Reading a study's results from disk, checked whole before anything is drawn.

Which runs there are comes from the study, never from what happens to lie on disk.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailnas.errors import UserError
from tailnas.evaluation.metrics import GROUPS, Groups
from tailnas.evaluation.palette import COMPONENT_TITLES
from tailnas.space.genotype import Genotype
from tailnas.space.primitives import EDGES, PRIMITIVES

MODELS = ("retrained", "adapted")
METRICS = ("top1", "balanced_accuracy", "macro_f1", "ece", *GROUPS)
_TEXT_COLUMNS = ("genotype", "name", "model")


class Study(Protocol):
    """What was run: every method at every imbalance factor with every seed."""

    @property
    def methods(self) -> Sequence[str]: ...

    @property
    def imbalance_factors(self) -> Sequence[int | float]: ...

    @property
    def seeds(self) -> Sequence[int]: ...


@dataclass(frozen=True)
class Run:
    """Everything the report shows of one run; K classes, fractions from 0 to 1."""

    method: str
    factor: int | float
    seed: int
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    """(K,) training images of each class, both search halves together."""
    metrics: dict[str, dict[str, float | None]]
    """For `retrained` and `adapted`: top1, balanced_accuracy, macro_f1, ece, many, medium, few."""
    groups: Groups
    parameters: int
    multiply_adds: int
    """Of one image's forward pass through the retrained network."""
    test_images: int
    recall: dict[str, NDArray[np.float64]]
    """For each model (K,); NaN for a class without test images."""
    confusion: dict[str, NDArray[np.int64]]
    """For each model (K, K), true classes in rows."""
    genotype: Genotype
    search: pd.DataFrame
    sweep: pd.DataFrame | None
    """Columns mixing_ratio and balanced_accuracy of a search with two branches."""
    alphas: dict[str, NDArray[np.float32]]
    """For each component (epochs + 1, 14, 8); empty where nothing was searched."""
    cost: dict[str, int | float]
    retrain: pd.DataFrame
    adapt: pd.DataFrame

    @property
    def name(self) -> str:
        return run_name(self.method, self.factor, self.seed)

    @property
    def searched(self) -> bool:
        """Whether alphas were trained; a random or published genotype has a single epoch 0."""
        return bool(self.search["epoch"].max() > 0)


@dataclass(frozen=True)
class Results:
    """A study's runs in the study's order (factors, then methods, then seeds), and each seed's pretraining."""

    methods: tuple[str, ...]
    factors: tuple[int | float, ...]
    seeds: tuple[int, ...]
    runs: tuple[Run, ...]
    pretrain: dict[int, pd.DataFrame]

    def of(self, method: str | None = None, factor: int | float | None = None, seed: int | None = None) -> list[Run]:
        """The runs that match, in the study's order."""
        return [
            run
            for run in self.runs
            if method in (None, run.method) and factor in (None, run.factor) and seed in (None, run.seed)
        ]


def run_name(method: str, factor: int | float, seed: int) -> str:
    """`bbn_hls-if30-seed0`: the folder of a run."""
    return f"{method}-if{factor}-seed{seed}"


def read_results(results: Path, splits: Path, study: Study) -> Results:
    """Read the study's runs from `results/runs` and `splits`, and pretraining where `results/pretrain` exists.

    Raises UserError naming the file that is missing, damaged or does not fit the others.
    """
    runs = tuple(
        read_run(results / "runs", splits, method, factor, seed)
        for factor in study.imbalance_factors
        for method in study.methods
        for seed in study.seeds
    )
    histories = results / "pretrain"
    pretrain = {
        seed: read_history(histories / f"seed{seed}" / "history.csv", ("loss",))
        for seed in (study.seeds if histories.exists() else ())
    }
    return Results(tuple(study.methods), tuple(study.imbalance_factors), tuple(study.seeds), runs, pretrain)


def read_run(runs: Path, splits: Path, method: str, factor: int | float, seed: int) -> Run:
    """Read one run; raises UserError as `read_results` does."""
    folder = runs / run_name(method, factor, seed)
    table = read_table(splits / f"if{factor}-seed{seed}" / "counts.csv", ("class", "name", "total"))
    classes, counts = tuple(table["name"]), tuple(int(total) for total in table["total"])
    evaluated = folder / "evaluate"
    metrics = _read_metrics(evaluated / "metrics.json", len(classes))
    search = read_history(folder / "search" / "history.csv", ("genotype",))
    searched = bool(search["epoch"].max() > 0)
    return Run(
        method=method,
        factor=factor,
        seed=seed,
        classes=classes,
        counts=counts,
        **metrics,
        recall=_read_recall(evaluated / "per_class.csv", counts),
        confusion=_read_confusion(evaluated / "confusion.csv", len(classes)),
        genotype=_read_genotype(folder / "derive" / "genotype.json"),
        search=search,
        sweep=_read_sweep(folder / "search" / "mixing_ratio.csv") if "mixing_ratio" in search else None,
        alphas=_read_alphas(folder / "search" / "alphas.npz", len(search)) if searched else {},
        cost=_read_cost(folder / "search" / "cost.json"),
        retrain=read_history(folder / "retrain" / "history.csv", ("loss",)),
        adapt=read_history(folder / "adapt" / "history.csv", ()),
    )


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV file that has at least `columns`, with one row or more; every column but names holds numbers."""
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(_TEXT_COLUMNS, str), keep_default_na=False, encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; allowed: the CSV file that an earlier stage writes") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as CSV ({_line(error)})") from None
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise UserError(
            f"{path}: no column {missing[0]!r}; found {', '.join(map(str, table.columns))}; "
            f"needed: {', '.join(columns)}"
        )
    if table.empty:
        raise UserError(f"{path}: has no rows; allowed: one or more")
    for column in [name for name in table.columns if name not in _TEXT_COLUMNS]:
        table[column] = _numbers(path, column, table[column])
    return table


def read_history(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A history.csv: `epoch` and `columns` are needed, epochs must ascend."""
    history = read_table(path, ("epoch", *columns))
    if not (history["epoch"].diff().dropna() > 0).all():
        raise UserError(f"{path}: column 'epoch' does not ascend; allowed: each epoch once, in order")
    return history


def _read_sweep(path: Path) -> pd.DataFrame:
    table = read_table(path, ("mixing_ratio", "balanced_accuracy"))
    for column in ("mixing_ratio", "balanced_accuracy"):
        if not table[column].between(0, 1).all():
            raise UserError(f"{path}: column {column!r} leaves 0 to 1")
    return table


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; allowed: the JSON file that an earlier stage writes") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({_line(error)})") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds {type(found).__name__}; allowed: an object")
    return found


def _numbers(path: Path, column: str, values: pd.Series) -> pd.Series:
    filled = values.astype(object).where(values.astype(str).str.strip() != "", None)
    numbers = pd.to_numeric(filled, errors="coerce")
    wrong = numbers.isna() & ~filled.isna() & (filled.astype(str).str.lower() != "nan")
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise UserError(f"{path} row {row + 1}: column {column!r} is {filled.iloc[row]!r}; allowed: a number")
    return numbers


def _read_metrics(path: Path, num_classes: int) -> dict[str, Any]:
    found = read_json(path)
    metrics: dict[str, dict[str, float | None]] = {}
    for model in MODELS:
        values = _member(path, found, model, dict)
        metrics[model] = {metric: _fraction(path, model, values, metric) for metric in METRICS}
    sizes = {}
    for key in ("parameters", "multiply_adds", "test_images"):
        value = _member(path, found, key, int)
        if isinstance(value, bool) or value < 0:
            raise UserError(f"{path}: {key} is {value!r}; allowed: a whole number from 0")
        sizes[key] = value
    return {"metrics": metrics, "groups": _groups(path, _member(path, found, "groups", dict), num_classes), **sizes}


def _member(path: Path, found: dict[str, Any], key: str, kind: type) -> Any:
    if key not in found:
        raise UserError(f"{path}: no key {key!r}; found {', '.join(sorted(found))}")
    if not isinstance(found[key], kind):
        raise UserError(f"{path}: {key} is {_short(found[key])}; allowed: {kind.__name__}")
    return found[key]


def _fraction(path: Path, model: str, values: dict[str, Any], metric: str) -> float | None:
    if metric not in values:
        raise UserError(f"{path}: no key {model}.{metric}; found {', '.join(sorted(values))}")
    value = values[metric]
    if value is None and metric in GROUPS:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"{path}: {model}.{metric} is {_short(value)}; allowed: a number from 0 to 1")
    return float(value)


def _groups(path: Path, found: dict[str, Any], num_classes: int) -> Groups:
    rule = found.get("rule")
    if rule not in ("counts", "thirds"):
        raise UserError(f"{path}: groups.rule is {_short(rule)}; allowed: counts, thirds")
    members = [_member(path, found, name, list) for name in GROUPS]
    classes = [index for group in members for index in group]
    if not all(type(index) is int for index in classes) or sorted(classes) != list(range(num_classes)):
        raise UserError(
            f"{path}: groups hold the classes {_short(classes)}; allowed: each of 0 to {num_classes - 1} once"
        )
    return Groups(rule, *(tuple(group) for group in members))


def _read_recall(path: Path, counts: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    columns = [f"recall_{model}" for model in MODELS]
    table = read_table(path, ("class", "count", *columns))
    if table["class"].tolist() != list(range(len(counts))):
        raise UserError(f"{path}: column 'class' is not 0 to {len(counts) - 1} in order, as in counts.csv")
    if table["count"].tolist() != list(counts):
        raise UserError(
            f"{path}: column 'count' is {table['count'].tolist()}; allowed: {list(counts)}, as in counts.csv"
        )
    recall = {}
    for model, column in zip(MODELS, columns, strict=True):
        values = table[column].to_numpy(np.float64)
        if not ((values >= 0) & (values <= 1) | np.isnan(values)).all():
            raise UserError(f"{path}: column {column!r} leaves 0 to 1")
        recall[model] = values
    return recall


def _read_confusion(path: Path, num_classes: int) -> dict[str, NDArray[np.int64]]:
    table = read_table(path, ("model", "true", "predicted", "count"))
    if unknown := sorted(set(table["model"]) - set(MODELS)):
        raise UserError(f"{path}: column 'model' has {unknown[0]!r}; allowed: {', '.join(MODELS)}")
    for column, highest in (("true", num_classes - 1), ("predicted", num_classes - 1), ("count", math.inf)):
        values = table[column].to_numpy(np.float64)
        if not ((values >= 0) & (values <= highest) & (values == np.floor(values)) & np.isfinite(values)).all():
            limit = "" if highest == math.inf else f" to {highest}"
            found = f"{values.min():g} to {values.max():g}"
            raise UserError(f"{path}: column {column!r} has {found}; allowed: whole numbers from 0{limit}")
    matrices = {}
    for model in MODELS:
        rows = table[table["model"] == model]
        matrix = np.zeros((num_classes, num_classes), np.int64)
        np.add.at(matrix, (rows["true"].astype(int), rows["predicted"].astype(int)), rows["count"].astype(int))
        if not matrix.any():
            raise UserError(f"{path}: counts no image for the model {model!r}; allowed: one or more")
        matrices[model] = matrix
    return matrices


def _read_genotype(path: Path) -> Genotype:
    try:
        return Genotype.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the derive stage") from None
    except (OSError, ValueError, UserError) as error:
        raise UserError(f"{path}: {_line(error)}") from None


def _read_alphas(path: Path, epochs: int) -> dict[str, NDArray[np.float32]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            alphas = {name: np.asarray(archive[name], np.float32) for name in archive.files}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the search stage") from None
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read as alphas ({_line(error)})") from None
    shape = (epochs + 1, EDGES, len(PRIMITIVES))
    if missing := {"normal", "reduce"} - set(alphas):
        raise UserError(f"{path}: no component {min(missing)!r}; found {', '.join(sorted(alphas)) or 'nothing'}")
    for name, values in alphas.items():
        if name not in COMPONENT_TITLES:
            raise UserError(f"{path}: component {name!r} is not known; allowed: {', '.join(COMPONENT_TITLES)}")
        if values.shape != shape:
            raise UserError(
                f"{path}: component {name!r} has shape {values.shape}; allowed: {shape}, as history.csv says"
            )
        if not np.isfinite(values).all():
            raise UserError(f"{path}: component {name!r} holds NaN or infinity; allowed: finite numbers")
    return alphas


def _read_cost(path: Path) -> dict[str, int | float]:
    found = read_json(path)
    for key in ("optimiser_steps", "images", "multiply_adds"):
        value = found.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise UserError(f"{path}: {key} is {_short(value)}; allowed: a number from 0")
    return {key: found[key] for key in ("optimiser_steps", "images", "multiply_adds")}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

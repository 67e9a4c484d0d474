"""The report of a study: one HTML page that needs no network, and the tables beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from tailnas.data.dataset import Meta, Part, load_meta, load_train
from tailnas.errors import UserError
from tailnas.evaluation import curves, figures
from tailnas.evaluation.alphas import alphas_over_time
from tailnas.evaluation.classes import ClassView, class_views
from tailnas.evaluation.comparisons import compare_methods, comparisons_frame
from tailnas.evaluation.drawing import cell_svg
from tailnas.evaluation.findings.chapters import chapters
from tailnas.evaluation.findings.finding import points
from tailnas.evaluation.plots import confusion_frame, per_class_frame, search_frame
from tailnas.evaluation.runs import MODELS, Results, Run, Study, read_results
from tailnas.evaluation.summary import METRIC_TITLES, mean_metric, study_metrics, summary_frame
from tailnas.evaluation.svg import inline_svg, report_style
from tailnas.evaluation.tables import (
    ClassRow,
    ComparisonRow,
    ResultRow,
    balanced_test,
    class_rows,
    column_titles,
    comparison_rows,
    mean_rows,
    run_rows,
)

MATRICES_A_FIGURE = 3
OPEN_RUNS = 4
"""Runs up to which their details stand open."""

ALPHA_FIGURES = 24
"""Runs up to which each has its alphas drawn; in larger studies the first seed's runs have."""


@dataclass(frozen=True)
class Card:
    """A number at the top of the page."""

    title: str
    value: str
    note: str


@dataclass(frozen=True)
class FactorView:
    """Everything the page shows for one imbalance factor."""

    factor: int | float
    thirds: bool
    cards: list[Card]
    classes: list[ClassView]
    means: list[ResultRow]
    rows: list[ResultRow]
    comparisons: list[ComparisonRow]
    effect: Markup
    recall: Markup
    confusion: list[Markup]
    schedules: Markup | None
    sweep: Markup | None
    collapse: Markup | None
    losses: Markup


@dataclass(frozen=True)
class RunView:
    """Details of one run."""

    name: str
    summary: str
    cells: list[Markup]
    alphas: Markup | None
    searched: bool
    classes: list[ClassRow]


def build_report(results: Path, raw: Path, splits: Path, study: Study, output: Path) -> None:
    """Write the report of `study` into the folder `output`.

    Args:
        results: folder with `runs/<run>/...` and, where super-networks were pretrained, `pretrain/seed<s>/`.
        raw: folder of the target data set (its test files are not opened).
        splits: folder with `if<factor>-seed<seed>/counts.csv`.
        study: what was run; runs that lie on disk but are not in it do not appear.
        output: gets index.html, summary.csv, comparisons.csv, metrics.json and plots/*.csv, functions of the inputs.

    Raises:
        UserError: an input file is missing or damaged; nothing has been written then.
    """
    read = read_results(results, splits, study)
    meta, part = load_meta(raw), load_train(raw)
    for run in read.runs:
        if run.classes != meta.classes:
            counts = splits / f"if{run.factor}-seed{run.seed}" / "counts.csv"
            raise UserError(
                f"{counts}: its {len(run.classes)} classes are not the {len(meta.classes)} of {raw / 'meta.json'}; "
                "allowed: the same names in the same order"
            )
    page = render_page(read, meta, part)
    plots = output / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    (output / "index.html").write_text(page, encoding="utf-8", newline="\n")
    metrics = json.dumps(study_metrics(read), indent=2) + "\n"
    (output / "metrics.json").write_text(metrics, encoding="utf-8", newline="\n")
    for path, frame in (
        (output / "summary.csv", summary_frame(read)),
        (output / "comparisons.csv", comparisons_frame(read)),
        (plots / "search.csv", search_frame(read)),
        (plots / "per_class.csv", per_class_frame(read)),
        (plots / "confusion.csv", confusion_frame(read)),
    ):
        frame.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def render_page(results: Results, meta: Meta, part: Part) -> str:
    """The HTML page; `part` gives each class its example image."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    with report_style():
        factors = [_factor_view(results, factor, part) for factor in results.factors]
        runs = [_run_view(results, run) for run in results.runs]
    return environment.get_template("report.html.j2").render(
        meta=meta,
        results=results,
        titles=column_titles(results),
        chapters=chapters(results),
        factors=factors,
        runs=runs,
        open_runs=len(runs) <= OPEN_RUNS,
        balanced=balanced_test(results),
        each_class=figures.EACH_CLASS_UP_TO,
        annotated=figures.ANNOTATE_UP_TO,
        test_images=min(run.test_images for run in results.runs),
    )


def _factor_view(results: Results, factor: int | float, part: Part) -> FactorView:
    runs = results.of(factor=factor)
    by_method = {method: results.of(method, factor) for method in results.methods}
    groups = [
        results.methods[start : start + MATRICES_A_FIGURE] for start in range(0, len(by_method), MATRICES_A_FIGURE)
    ]
    return FactorView(
        factor=factor,
        thirds=any(run.groups.rule == "thirds" for run in runs),
        cards=_cards(runs),
        classes=class_views(runs[0], part),
        means=mean_rows(results, factor) if len(results.seeds) > 1 else [],
        rows=run_rows(results, factor),
        comparisons=comparison_rows(compare_methods(results, factor)),
        effect=_inline(figures.adaptation_effect(by_method), f"effect-{factor}", "Before and after head adaptation"),
        recall=_inline(figures.recall_by_size(by_method), f"recall-{factor}", "Recall of each class against its size"),
        confusion=[
            _inline(
                figures.confusion_matrices({method: by_method[method] for method in group}),
                f"confusion-{factor}-{number}",
                f"Confusion matrices of {', '.join(group)}",
            )
            for number, group in enumerate(groups)
        ],
        schedules=_inline_or_none(
            curves.schedules(results, factor), f"schedules-{factor}", "Schedules of the searches"
        ),
        sweep=_inline_or_none(
            curves.sweep(results, factor), f"sweep-{factor}", "Balanced accuracy against the mixing ratio"
        ),
        collapse=_inline_or_none(
            curves.collapse(results, factor), f"collapse-{factor}", "Skip share, movement, entropy"
        ),
        losses=_inline(curves.losses(results, factor), f"losses-{factor}", "Losses and accuracies over epochs"),
    )


def _inline(figure: Figure, name: str, description: str) -> Markup:
    return Markup(inline_svg(figure, name, description))


def _inline_or_none(figure: Figure | None, name: str, description: str) -> Markup | None:
    return None if figure is None else _inline(figure, name, description)


def _cards(runs: list[Run]) -> list[Card]:
    """Mean of all runs, retrained to adapted."""
    cards = []
    for metric in ("top1", "many", "medium", "few"):
        before, after = (mean_metric(runs, model, metric) for model in MODELS)
        if before is not None and after is not None:
            value = f"{100 * before:.1f} → {100 * after:.1f} %"
            cards.append(Card(METRIC_TITLES[metric], value, f"{points(after - before)} points"))
    return cards


def _run_view(results: Results, run: Run) -> RunView:
    drawn = run.searched and (len(results.runs) <= ALPHA_FIGURES or run.seed == results.seeds[0])
    return RunView(
        name=run.name,
        summary="; ".join(_before_and_after(run, metric) for metric in ("top1", "few")),
        cells=[Markup(cell_svg(component, edges)) for component, edges in run.genotype.components().items()],
        alphas=_inline(alphas_over_time(run), f"alphas-{run.name}", f"Alphas of {run.name}") if drawn else None,
        searched=run.searched,
        classes=class_rows(run),
    )


def _before_and_after(run: Run, metric: str) -> str:
    before, after = (run.metrics[model][metric] for model in MODELS)
    change = "not measured" if before is None or after is None else f"{100 * before:.1f} → {100 * after:.1f} %"
    return f"{METRIC_TITLES[metric].lower()} {change}"

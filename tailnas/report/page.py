"""The report of a study: one HTML page that needs no network, and the tables beside it."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from tailnas.data.dataset import Meta, Part, load_meta, load_train
from tailnas.derive.drawing import cell_svg
from tailnas.evaluate.intervals import TOO_WIDE
from tailnas.foundation.errors import UserError
from tailnas.foundation.settings import Study
from tailnas.report import curves, figures
from tailnas.report.alphas import alphas_over_time
from tailnas.report.answer import answers
from tailnas.report.calibration import SHOWN_COVERAGES, calibration_rows, reliability
from tailnas.report.classes import class_views, png_address
from tailnas.report.comparisons import compare_methods, comparisons_frame
from tailnas.report.figures import label, size_order
from tailnas.report.findings.chapters import chapters
from tailnas.report.page_templates import FOLDER, environment
from tailnas.report.plots import confusion_frame, per_class_frame, search_frame
from tailnas.report.recalls import ROW_METRICS, recall_rows
from tailnas.report.runs import MODELS, Factor, Results, Run, read_results
from tailnas.report.summary import METRIC_TITLES, mean_metric, study_metrics, summary_frame
from tailnas.report.svg import inline_svg, report_style, themed
from tailnas.report.tables import balanced_test, mean_rows, metric_columns, run_rows
from tailnas.report.variance import spreads, variance_frame

SECTIONS = (
    ("results", "Results"),
    ("findings", "What it can tell"),
    ("data", "Data"),
    ("recall", "Recall by class size"),
    ("examples", "Rare classes and mistakes"),
    ("confusion", "Confusion"),
    ("calibration", "Calibration"),
    ("runs", "Cells and alphas"),
    ("collapse", "Collapse watch"),
    ("schedules", "Schedules"),
    ("losses", "Training"),
)
"""The page from top to bottom: names of templates in `templates/sections`, and what the navigation calls them."""

MATRICES_PER_FIGURE = 3
OPEN_RUNS = 4
"""Runs up to which their details stand open."""

ALPHA_FIGURES = 24
"""Runs up to which each has its alphas drawn; in larger studies the first seed's runs have."""


def build_report(results: Path, raw: Path, splits: Path, study: Study, output: Path) -> None:
    """Write the report of `study` into the folder `output`.

    Args:
        results: folder with `runs/<run>/...` and, where super-networks were pretrained, `pretrain/seed<s>/`.
        raw: folder of the target data set (its test files are not opened).
        splits: folder with `if<factor>-seed<seed>/counts.csv`.
        study: what was run; runs that lie on disk but are not in it do not appear.
        output: gets index.html, summary.csv, comparisons.csv, variance.csv, metrics.json and plots/*.csv, functions of
            the inputs.

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
        (output / "variance.csv", variance_frame(read)),
        (plots / "search.csv", search_frame(read)),
        (plots / "per_class.csv", per_class_frame(read)),
        (plots / "confusion.csv", confusion_frame(read)),
    ):
        frame.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def render_page(results: Results, meta: Meta, part: Part) -> str:
    """The HTML page; `part` gives each class its example image."""
    with report_style():
        factors = [_of_factor(results, factor, part) for factor in results.factors]
        runs = [_of_run(results, run) for run in results.runs]
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            sections=SECTIONS,
            script=Markup(script),
            script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}",
            meta=meta,
            answers=answers(results),
            results=results,
            metrics=metric_columns(results),
            known_metrics=ROW_METRICS,
            too_wide=TOO_WIDE,
            coverages=SHOWN_COVERAGES,
            titles=METRIC_TITLES,
            chapters=chapters(results, meta.repeated),
            factors=factors,
            runs=runs,
            seed_title="Seed" if len(results.retrain_seeds) == 1 else "Seed, retrain seed",
            open_runs=len(runs) <= OPEN_RUNS,
            balanced=balanced_test(results),
            each_class=figures.EACH_CLASS_UP_TO,
            annotated=figures.ANNOTATE_UP_TO,
            test_images=min(run.test_images for run in results.runs),
        )
    )


def _of_factor(results: Results, factor: Factor, part: Part) -> dict[str, Any]:
    """What the page shows of one imbalance factor."""
    runs = results.of(factor=factor)
    by_method = {method: results.of(method, factor) for method in results.methods}
    leading = metric_columns(results)[0]
    drawn = {
        "effect": (figures.adaptation_effect(by_method, leading), "Before and after head adaptation"),
        "recall": (figures.recall_by_size(by_method), "Recall of each class against its size"),
        "reliability": (reliability(by_method), "Accuracy against confidence"),
        "schedules": (curves.schedules(results, factor), "Schedules of the searches"),
        "sweep": (curves.sweep(results, factor), "Balanced accuracy against the mixing ratio"),
        "collapse": (curves.collapse(results, factor), "Skip share, movement, entropy"),
        "losses": (curves.losses(results, factor), "Losses and accuracies over epochs"),
    }
    matrices = [
        results.methods[start : start + MATRICES_PER_FIGURE] for start in range(0, len(by_method), MATRICES_PER_FIGURE)
    ]
    return {
        "factor": factor,
        "thirds": any(run.groups.rule == "thirds" for run in runs),
        "title": results.title(factor),
        "cards": [(method, _card(own, leading)) for method, own in by_method.items()],
        "spreads": spreads(results, factor),
        "classes": class_views(runs[0], part),
        "known": recall_rows(results, factor),
        "examples": [_examples(own[0]) for own in by_method.values()],
        "means": mean_rows(results, factor) if len(results.seeds) > 1 else [],
        "rows": run_rows(results, factor),
        "comparisons": compare_methods(results, factor),
        "calibration": calibration_rows(by_method),
        "confusion": [
            _inline(
                figures.confusion_matrices({method: by_method[method] for method in methods}),
                f"confusion-{factor}-{number}",
                f"Confusion matrices of {', '.join(methods)}",
            )
            for number, methods in enumerate(matrices)
        ],
        **{name: _inline(figure, f"{name}-{factor}", title) for name, (figure, title) in drawn.items()},
    }


def _inline(figure: Figure | None, name: str, description: str) -> Markup | None:
    return None if figure is None else Markup(inline_svg(figure, name, description))


def _card(runs: list[Run], leading: str) -> list[tuple[str, float, float]]:
    """Title, retrained and adapted of a method's numbers at the top of the page: means over its runs alone."""
    card = []
    for metric in (leading, "few"):
        before, after = (mean_metric(runs, model, metric) for model in MODELS)
        if before is not None and after is not None:
            card.append((METRIC_TITLES[metric], before, after))
    return card


def _examples(run: Run) -> dict[str, Any]:
    """The run's test images of rare classes, class by class, and its mistakes."""
    rare: dict[int, list[dict[str, Any]]] = {}
    mistakes: list[dict[str, Any]] = []
    for position, (kind, index) in enumerate(zip(run.examples["kind"], run.examples["label"], strict=True)):
        (rare.setdefault(int(index), []) if kind == "rare" else mistakes).append(_example(run, position))
    return {
        "run": run,
        "rare": [(run.classes[index], run.counts[index], shown) for index, shown in rare.items()],
        "mistakes": mistakes,
    }


def _example(run: Run, position: int) -> dict[str, Any]:
    """A picture with its class, and what each network said."""
    row = run.examples.iloc[position]
    said = [
        {
            "model": model,
            "name": label(run.classes[row[model]]),
            "confidence": row[f"{model}_probability"],
            "right": row[model] == row["label"],
        }
        for model in MODELS
    ]
    name = label(run.classes[row["label"]])
    return {"picture": png_address(run.pictures[position]), "image": row["image"], "label": name, "said": said}


def _of_run(results: Results, run: Run) -> dict[str, Any]:
    """What the page shows of one run."""
    first = run.retrain_seed == results.retrain_seeds[0]
    drawn = run.searched and first and (len(results.searches) <= ALPHA_FIGURES or run.seed == results.seeds[0])
    return {
        "run": run,
        "images": run.tested.tolist(),
        "intervals": {model: run.recall_intervals(model).T.tolist() for model in MODELS},
        "cells": [Markup(themed(cell_svg(component, edges))) for component, edges in run.genotype.components().items()],
        "alphas": _inline(alphas_over_time(run), f"alphas-{run.name}", f"Alphas of {run.name}") if drawn else None,
        "order": size_order(run.counts).tolist(),
        "groups": run.groups.by_class,
    }

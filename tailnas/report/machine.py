"""The report with what no input determines: seconds, memory, commit and hardware, read from logs and from Git.

Outputs are functions of parameters, inputs and code, so that this page is none: it lies in `logs/report`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tailnas.foundation.errors import UserError
from tailnas.report.page_templates import environment
from tailnas.report.tables import NONE, engineering

LOGS, PARAMS = Path("logs"), Path("params.yaml")
PAGE = "report/index.html"
LINK_MARK, SECTION_MARK = "<!-- machine link -->", "<!-- machine -->"
OF_RUNS, OF_SEARCHES = ("retrain", "adapt", "evaluate"), ("search",)


@dataclass(frozen=True)
class CostRow:
    """One method, or the pretraining, in the words of the table; `seconds` by stage."""

    name: str
    multiply_adds: str
    seconds: list[str]
    memory: str


def write_page(report: Path, logs: Path = LOGS) -> Path | None:
    """Write the page of the folder `report` with what `logs` know of its runs, as `logs/report/index.html`.

    Returns where it lies, or None where no stage has noted anything there. Raises UserError for a damaged report.
    """
    try:
        page = (report / "index.html").read_text(encoding="utf-8")
        summary = pd.read_csv(report / "summary.csv")
        section = _section(summary, logs)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{report}: {reason}; allowed: what the report stage writes") from None
    if section is None:
        return None
    page = page.replace(LINK_MARK, '<a href="#machine">Cost and reproduction</a>', 1).replace(SECTION_MARK, section, 1)
    path = logs / PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8", newline="\n")
    return path


def _section(summary: pd.DataFrame, logs: Path) -> str | None:
    noted = {
        "pretrain": _notes(logs, "pretrain", (f"seed{seed}" for seed in summary["seed"])),
        "search": _notes(logs, "search", summary["run"].str.rpartition("-")[0]),
        **{stage: _notes(logs, stage, summary["run"]) for stage in OF_RUNS},
    }
    facts = [fact for notes in noted.values() for fact in notes.values()]
    if not facts:
        return None
    return (
        environment()
        .get_template("machine.html.j2")
        .render(
            rows=[
                _pretraining(summary, noted["pretrain"]),
                *(_method(str(name), rows, noted) for name, rows in summary.groupby("method", sort=False)),
            ],
            devices=_distinct(facts, "device"),
            processors=_distinct(facts, "processor"),
            cards=_distinct(facts, "card"),
            threads=_distinct(facts, "threads"),
            pythons=_distinct(facts, "python"),
            torches=sorted({str(fact.get("versions", {}).get("torch")) for fact in facts}),
            commit=_commit(),
            params=PARAMS.read_text(encoding="utf-8") if PARAMS.exists() else "",
        )
    )


def _notes(logs: Path, stage: str, runs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What the stage has noted of each of `runs`, where it has."""
    notes = {}
    for run in dict.fromkeys(runs):
        try:
            notes[run] = json.loads((logs / stage / run / "run.json").read_text())
        except (OSError, ValueError):
            continue
    return notes


def _pretraining(summary: pd.DataFrame, notes: dict[str, dict[str, Any]]) -> CostRow:
    seconds = [_seconds(notes.values()), *[NONE] * (1 + len(OF_RUNS))]
    return CostRow("pretraining", _counted(summary["pretrain_multiply_adds"].max()), seconds, _memory(notes.values()))


def _method(name: str, rows: pd.DataFrame, noted: dict[str, dict[str, dict[str, Any]]]) -> CostRow:
    own = {
        "search": [noted["search"].get(search) for search in dict.fromkeys(rows["run"].str.rpartition("-")[0])],
        **{stage: [noted[stage].get(run) for run in rows["run"]] for stage in OF_RUNS},
    }
    known = {stage: [note for note in notes if note] for stage, notes in own.items()}
    seconds = [NONE, *(_seconds(known[stage]) for stage in ("search", *OF_RUNS))]
    memory = _memory(note for notes in known.values() for note in notes)
    return CostRow(name, _counted(rows["search_multiply_adds"].mean()), seconds, memory)


def _counted(value: float) -> str:
    return engineering(float(value)) if value else NONE


def _seconds(notes: Iterable[dict[str, Any]]) -> str:
    values = [float(note["seconds"]) for note in notes]
    return f"{np.mean(values):,.1f}" if values else NONE


def _memory(notes: Iterable[dict[str, Any]]) -> str:
    """The most that any of the stages took, on a card after the plus sign."""
    notes = list(notes)
    memory, card = (max((int(note.get(key, 0)) for note in notes), default=0) for key in ("memory_mib", "card_mib"))
    return (f"{memory:,}" if memory else NONE) + (f" + {card:,}" if card else "")


def _distinct(facts: Iterable[dict[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(str(fact[key]) for fact in facts if key in fact))


def _commit() -> str | None:
    """`03920c6...`, with a word on what is not committed; None outside of Git."""
    try:
        commands = (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        head, changed = (
            subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    files = [line[2:].strip() for line in changed.splitlines() if not line.endswith((" dvc.lock", " params.yaml"))]
    return head + (f", with changes in {len(files)} files" if files else "")

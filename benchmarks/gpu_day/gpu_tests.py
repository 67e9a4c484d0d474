"""Every test that is marked `gpu`, by pytest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.gpu_day.results import Day, Part, in_one_go

ROOT = Path(__file__).parents[2]
FOLDERS = "tests/unit", "tests/exactness"
NOT_HERE = "tests/unit/workflow"
"""Its tests need DVC."""


def parts(day: Day) -> dict[str, Part]:
    return {"marked gpu": Part(in_one_go(run_tests, day), 60 * (not day.miniature))}


def command(report: Path, *folders: str) -> list[str]:
    options = ["-m", "gpu", "-p", "no:cacheprovider", f"--ignore={NOT_HERE}", f"--junitxml={report}"]
    return [sys.executable, "-m", "pytest", *options, *folders]


def run_tests(day: Day) -> dict[str, Any]:
    """How many passed, were skipped or failed, and their names.

    Raises RuntimeError where pytest itself does not run, and AssertionError where a test failed or, on a GPU, none ran.
    """
    report = (day.folder / "tests.xml").absolute()
    report.unlink(missing_ok=True)
    folders = ("tests/unit/batches",) if day.miniature else FOLDERS
    ran = subprocess.run(
        command(report, *folders),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=max(1.0, day.seconds_left),
        check=False,
    )
    print(ran.stdout[-4000:], ran.stderr[-2000:], flush=True)
    if not report.exists():
        raise RuntimeError(f"pytest wrote no report: {(ran.stderr or ran.stdout).strip()[-300:]}")
    found = outcomes(report)
    assert not found["failed"], f"failed: {', '.join(found['failed'])}"
    assert found["passed"] or day.device == "cpu", "no test ran"
    return {"passed": len(found["passed"]), "skipped": len(found["skipped"]), "names": found["passed"]}


def outcomes(report: Path) -> dict[str, list[str]]:
    """Names of tests by outcome, from pytest's report; what could not be loaded counts as failed."""
    found: dict[str, list[str]] = {"passed": [], "skipped": [], "failed": []}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        found[outcome].append(f"{case.get('classname')}::{case.get('name')}")
    return found


def headline(results: Mapping[str, Any]) -> str:
    found = results.get("marked gpu", {})
    return f"{found.get('passed', 0)} tests passed, {found.get('skipped', 0)} skipped"

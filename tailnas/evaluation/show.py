"""Print a report's table: `python -m tailnas.evaluation.show results/report`."""

import sys
from pathlib import Path

import pandas as pd

from tailnas.errors import UserError
from tailnas.evaluation.comparisons import comparisons_table
from tailnas.evaluation.summary import results_table


def show(report: Path) -> str:
    """The results table of a report folder, with several seeds the comparisons of methods, and where its page lies.

    Raises UserError naming the file.
    """
    tables = [results_table(_read(report / "summary.csv")), comparisons_table(_read(report / "comparisons.csv"))]
    return "\n\n".join([*filter(None, tables), f"report: {report / 'index.html'}"])


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: unreadable ({error}); allowed: what the report stage writes") from None


if __name__ == "__main__":
    try:
        print(show(Path(sys.argv[1])))
    except UserError as error:
        sys.exit(str(error))

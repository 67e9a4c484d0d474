"""Print a report's table: `python -m tailnas.evaluation.show results/report`."""

import sys
from pathlib import Path

import pandas as pd

from tailnas.errors import UserError
from tailnas.evaluation.summary import results_table


def show(report: Path) -> str:
    """The results table of a report folder, and where its page lies. Raises UserError naming the file."""
    try:
        summary = pd.read_csv(report / "summary.csv")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{report / 'summary.csv'}: unreadable ({error}); allowed: what the report stage writes"
        ) from None
    return f"{results_table(summary)}\n\nreport: {report / 'index.html'}"


if __name__ == "__main__":
    try:
        print(show(Path(sys.argv[1])))
    except UserError as error:
        sys.exit(str(error))

"""Print a report's tables: `python -m tailnas.report.show results/report`."""

import sys
from pathlib import Path

import pandas as pd

from tailnas.foundation.errors import UserError, one_line
from tailnas.report.comparisons import comparisons_table
from tailnas.report.machine import write_page
from tailnas.report.summary import results_table


def show(report: Path) -> str:
    """The results table of a report folder, with several seeds the comparisons of methods, and where its page lies.

    Raises UserError naming the file.
    """
    tables = []
    for name, table in (("summary.csv", results_table), ("comparisons.csv", comparisons_table)):
        try:
            tables.append(table(pd.read_csv(report / name)))
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{report / name}: {reason}; allowed: what the report stage writes") from None
    measured = write_page(report) if (report / "index.html").exists() else None
    where = f"report: {report / 'index.html'}" + (
        f"\nwith seconds, memory and hardware: {measured}" if measured else ""
    )
    return "\n\n".join([*filter(None, tables), where])


def main(arguments: list[str]) -> None:
    """A user's mistake or the system's refusal is one line on stderr and exit status 1."""
    try:
        if len(arguments) != 1:
            raise UserError(f"report: {len(arguments)} folders; allowed: one, such as results/report")
        print(show(Path(arguments[0])))
    except Exception as error:
        if (line := one_line(error)) is None:
            raise
        sys.exit(line)


if __name__ == "__main__":
    main(sys.argv[1:])

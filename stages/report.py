"""Gather all runs of the study into one page, one table and a few numbers."""

from tailnas.foundation.settings import Study
from tailnas.foundation.stage import Stage, arguments, main
from tailnas.report.machine import write_page
from tailnas.report.page import build_report


def run() -> None:
    args = arguments(__doc__, inputs=("results", "data", "splits"))
    with Stage("report", args) as stage:
        with stage.writing() as folder:
            build_report(args.results, args.data, args.splits, stage.section("study", Study), folder)
        write_page(args.output)


if __name__ == "__main__":
    main(run)

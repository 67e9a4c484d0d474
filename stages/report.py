"""Gather all runs of the study into one page, one table and a few numbers."""

from tailnas.evaluation.report import build_report
from tailnas.stage import Stage, arguments, main


def run() -> None:
    args = arguments(__doc__, inputs=("results", "data", "splits"))
    with Stage("report", args) as stage, stage.writing() as folder:
        build_report(args.results, args.data, args.splits, stage.section("study"), folder)


if __name__ == "__main__":
    main(run)

"""Scoring one candidate after the other; the best one is the result."""

from __future__ import annotations

from collections.abc import Callable

from tailnas.genotype.genotype import Genotype
from tailnas.search.candidates import Candidates
from tailnas.training.checkpoint import Row
from tailnas.training.loop import Loop

Score = Callable[[Genotype, int, Callable[[], None]], dict[str, float]]
"""A genotype, its number from 0 and a function to call after each of its steps, to its columns."""


def rank(
    candidates: Candidates, count: int, score: Score, loop: Loop, steps: int = 1, by: str = "balanced_accuracy"
) -> tuple[Genotype, list[Row]]:
    """Score `count` candidates, each in `steps` steps; one is the unit of the loop's checkpoints.

    by: the column of `score` that ranks, more being better. Returns the best genotype (the first of equals) and one row
    per candidate: `candidate` from 1, the columns of `score`, the best one so far (such as `best_balanced_accuracy`),
    and the genotype.
    """
    best = float("-inf")

    def run_candidate(index: int, step_done: Callable[[], None]) -> Row:
        genotype = candidates.propose()
        columns = score(genotype, index, step_done)
        candidates.tell(genotype, columns[by])
        return {**columns, "genotype": genotype.to_line()}

    rows = loop.run(count, steps, run_candidate, {"candidates": candidates})
    table: list[Row] = []
    winner = str(rows[0]["genotype"])
    for row in rows:
        if float(row[by]) > best:
            best, winner = float(row[by]), str(row["genotype"])
        columns = {name: value for name, value in row.items() if name not in ("epoch", "genotype")}
        table.append({"candidate": row["epoch"], **columns, f"best_{by}": best, "genotype": row["genotype"]})
    return Genotype.from_json(winner), table

"""Check the whole of params.yaml before anything else runs."""

import os
from pathlib import Path

from tailnas.data.sources import source
from tailnas.data.splits import planned_counts
from tailnas.params import Params, load_params
from tailnas.stage import main

OUTPUT = Path("data/params.ok")


def check(params: Params) -> None:
    """What the types of the parameters cannot see: whether the data can be split as asked. Raises UserError."""
    source(params.data.source.kind).train_counts(params.data.source)
    target = source(params.data.target.kind)
    available, names = target.train_counts(params.data.target), target.class_names(params.data.target)
    if available is None:
        return
    split = params.split
    for factor in params.study.imbalance_factors:
        for seed in params.study.seeds:
            planned_counts(available, factor, split.profile, split.class_order, split.n_max, seed, names)


def run() -> None:
    check(load_params())
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    temporary = OUTPUT.with_name(f".{OUTPUT.name}.{os.getpid()}.tmp")
    temporary.write_text("params.yaml is valid\n")
    temporary.replace(OUTPUT)


if __name__ == "__main__":
    main(run)

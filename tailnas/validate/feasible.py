"""What the types of the parameters cannot see: whether the data can be split as asked."""

from __future__ import annotations

from tailnas.split.long_tail import planned_counts
from tailnas.validate.parameters import Params


def require_feasible(params: Params) -> None:
    """Raises UserError, one line with the key, where the data is not there or too small for the study."""
    source, target = params.data.source, params.data.target
    source.module.train_counts(source.settings)
    available, names = target.module.train_counts(target.settings), target.module.class_names(target.settings)
    if available is None:
        return
    split = params.split
    for factor in params.study.imbalance_factors:
        for seed in params.study.seeds:
            planned_counts(available, factor, split.profile, split.class_order, split.n_max, seed, names)

"""What the types of the parameters cannot see: whether the data can be split as asked."""

from __future__ import annotations

import os

from tailnas.export.settings import missing_packages
from tailnas.foundation.errors import UserError
from tailnas.split.long_tail import planned_counts
from tailnas.validate.parameters import Params


def require_feasible(params: Params) -> None:
    """Raises UserError, one line with the key, where the data is not there, or too large or small for the study, or a
    package is not installed that it needs.
    """
    if "onnx" in params.export.formats and (missing := missing_packages()):
        raise UserError(
            f"params.yaml: export.formats: 'onnx' needs {missing[0]}, which is not installed; "
            "allowed: after pip install '.[export]'"
        )
    source, target = params.data.source, params.data.target
    for role, data in {"source": source, "target": target}.items():
        _require_memory(role, data.module.train_counts(data.settings), params)
    available, names = target.module.train_counts(target.settings), target.module.class_names(target.settings)
    if available is None:
        return
    split = params.split
    for factor in params.study.imbalance_factors:
        for seed in params.study.seeds:
            planned_counts(available, factor, split.profile, split.class_order, split.n_max, seed, names)


def _require_memory(role: str, counts: list[int] | None, params: Params) -> None:
    """Training images are held as bytes, all at once."""
    needed = sum(counts or []) * params.data.channels * params.data.image_size**2
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise UserError(
            f"params.yaml: data.{role}: {needed / 2**30:,.1f} GiB of training images with data.image_size "
            f"{params.data.image_size}; allowed: at most this machine's memory ({there / 2**30:,.1f} GiB)"
        )

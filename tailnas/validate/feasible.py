"""What the types of the parameters cannot see: whether the data can be split as asked."""

from __future__ import annotations

import os

from tailnas.foundation.errors import UserError
from tailnas.foundation.extensions import Chosen
from tailnas.split.long_tail import planned_counts
from tailnas.validate.parameters import Params


def require_feasible(params: Params) -> None:
    """Raises UserError, one line with the key, where the data is not there, or too large or small for the study."""
    source, target = params.data.source, params.data.target
    for role, data in {"source": source, "target": target}.items():
        _require_memory(role, data.module.train_counts(data.settings), params)
        _require_tested(role, data, params)
    available, names = target.module.train_counts(target.settings), target.module.class_names(target.settings)
    if available is None:
        return
    split = params.split
    if split.folds is not None:
        available = [count - -(-count // split.folds) for count in available]
    for factor in params.study.imbalance_factors:
        for seed in params.study.seeds:
            planned_counts(available, factor, split.profile, split.class_order, split.n_max, seed, names)


def _require_tested(role: str, data: Chosen, params: Params) -> None:
    """Some images are tested: those of the test part or, of the target, with split.folds all."""
    if not hasattr(data.module, "test_counts"):
        return
    tested, folds = sum(data.module.test_counts(data.settings)), params.split.folds
    if role == "target" and folds is not None:
        if tested:
            raise UserError(
                f"params.yaml: split.folds: {folds}: data.target has a test part of {tested} images; "
                "allowed: null, or data.target.test_per_class null and no test part in the data"
            )
    elif not tested:
        given = data.settings.test_per_class
        raise UserError(
            f"params.yaml: data.{role}.test_per_class: {'null' if given is None else given} leaves no test image; "
            "allowed: a number, {fraction, least}, null with a test part in the data"
            + (", or split.folds" if role == "target" else "")
        )


def _require_memory(role: str, counts: list[int] | None, params: Params) -> None:
    """Training images are held as bytes, all at once."""
    needed = sum(counts or []) * params.data.channels * params.data.image_size**2
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise UserError(
            f"params.yaml: data.{role}: {needed / 2**30:,.1f} GiB of training images with data.image_size "
            f"{params.data.image_size}; allowed: at most this machine's memory ({there / 2**30:,.1f} GiB)"
        )

"""What the types of the parameters cannot see: whether the data can be split, and networks sized, as asked."""

from __future__ import annotations

import shutil
from pathlib import Path

from tailnas.export.settings import missing_packages
from tailnas.foundation.errors import UserError, spoken_size
from tailnas.foundation.extensions import Chosen
from tailnas.foundation.machine import memory
from tailnas.genotype.genotype import Genotype
from tailnas.retrain.retraining import network_builder
from tailnas.retrain.width import fitted_channels
from tailnas.search.method import known_genotypes, require_method
from tailnas.split.long_tail import planned_counts
from tailnas.validate.combinations import too_few_parameters
from tailnas.validate.memory import Images, require_memory
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
    trained = {}
    for role, data in {"source": source, "target": target}.items():
        counts = trained[role] = data.module.train_counts(data.settings)
        tested = data.module.test_counts(data.settings) if hasattr(data.module, "test_counts") else None
        _require_room(role, data, params, counts, tested)
        if tested is not None:
            _require_tested(role, data, params, sum(tested))
    available, names = trained["target"], target.module.class_names(target.settings)
    _require_methods(params, None if available is None else len(available))
    train = None
    if available is not None:
        too_small = too_few_parameters(params, len(available))
        if too_small is not None:
            raise UserError(f"params.yaml: {too_small}")
        _require_budget(params, len(available))
        split = params.split
        if split.folds is not None:
            available = [count - -(-count // split.folds) for count in available]
        train = min(
            sum(planned_counts(available, factor, split.profile, split.class_order, split.n_max, seed, names))
            for factor in params.study.imbalance_factors
            for seed in params.study.seeds
        )
    counts = trained["source"]
    half, classes = (None, None) if train is None or available is None else (train // 2, len(available))
    require_memory(params, Images(None if counts is None else sum(counts), half, train, classes))


def _require_methods(params: Params, classes: int | None) -> None:
    """Every method has what it needs."""
    for method in params.study.methods:
        try:
            require_method(method, params.search.method(method), params.space, classes, params.data.channels)
        except UserError as error:
            raise UserError(f"params.yaml: {error}") from None


def _require_budget(params: Params, classes: int) -> None:
    """Every genotype that is known before the searches meets `retrain.network.parameters`."""
    parameters = params.retrain.network.parameters
    if parameters is None:
        return
    for method in params.study.methods:
        known = known_genotypes(method, params.search.method(method))
        try:
            for genotype in (genotype for genotype in known if genotype.pretrained is None):
                _fit(params, genotype, classes, parameters, f"study.methods entry {method!r}")
        except UserError as error:
            raise UserError(f"params.yaml: {error}") from None


def _fit(params: Params, genotype: Genotype, classes: int, parameters: int, whose: str) -> None:
    build = network_builder(params.retrain, genotype, classes, params.data.channels)
    fitted_channels(lambda width: build(width, False), parameters, whose)


def _require_tested(role: str, data: Chosen, params: Params, tested: int) -> None:
    """Some images are tested: those of the test part or, of the target, with split.folds all."""
    folds = params.split.folds
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


def _require_room(
    role: str, data: Chosen, params: Params, counts: list[int] | None, test_counts: list[int] | None
) -> None:
    """Images of the user's own go through a file, once more than they are kept; others are held in memory at once."""
    images = sum(counts or [])
    if test_counts is not None:
        images += sum(test_counts)
    elif isinstance(tested := getattr(data.settings, "test_per_class", None), int):
        images += tested * len(data.module.class_names(data.settings))
    needed = images * params.data.channels * params.data.image_size**2
    if hasattr(data.module, "watched"):
        room, where = shutil.disk_usage(Path.cwd()).free // 2, "half of this disk's free space"
    else:
        room, where = memory(), "this machine's memory"
    if needed > room:
        raise UserError(
            f"params.yaml: data.{role}: {spoken_size(needed)} of images with data.image_size "
            f"{params.data.image_size}; allowed: at most {where} ({spoken_size(room)})"
        )

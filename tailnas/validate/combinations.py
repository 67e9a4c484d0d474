"""Mistakes that need more than one section to see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tailnas.fetch.source import shared_images
from tailnas.foundation.errors import short
from tailnas.foundation.settings import NATURAL, Section
from tailnas.genotype.genotype import HAND_MADE, Edges, Genotype
from tailnas.genotype.primitives import NODES
from tailnas.imbalance.settings import ConstantRatio
from tailnas.retrain.loss import Loss, loss_class
from tailnas.retrain.retraining import network_builder
from tailnas.retrain.reweighting import deferred
from tailnas.retrain.settings import Retrain, SingleBranch
from tailnas.retrain.width import TOLERANCE, smallest_size
from tailnas.search.method import mistakes_of, starting_paths, warnings_of
from tailnas.training.settings import Cosine

if TYPE_CHECKING:
    from tailnas.validate.parameters import Params


WITHOUT_SEARCH = ("frozen", "given")
"""Methods whose networks have a size of their own, or may have."""


def mistakes(params: Params) -> Iterator[str]:
    """One line each: key, value and what is allowed."""
    yield from _data(params)
    yield from _trainings(params)
    yield from _search(params)
    yield from _frozen(params)
    yield from _retrain(params)


def warnings(params: Params) -> Iterator[str]:
    """One line for each combination that can be computed but hardly meant: two corrections, or work for nothing."""
    yield from _head_warnings(params)
    yield from _unused(params)
    yield from _perhaps_too_few_parameters(params)
    for method in params.study.methods:
        yield from warnings_of(method, params.search.method(method), params.search.training)
    betas = {"retrain.reweighting.beta": getattr(params.retrain.reweighting, "beta", None)}
    betas["adapt.beta"] = getattr(params.adapt.settings, "beta", None)
    betas |= {f"search.{name}.beta": getattr(params.search.method(name), "beta", None) for name in params.study.methods}
    yield from (f"{key}: 0 weighs every class alike" for key, beta in betas.items() if beta == 0)


def _head_warnings(params: Params) -> Iterator[str]:
    """A head adaptation after a retraining that has corrected for class sizes already."""
    key, head = f"adapt.method: {params.adapt.name!r}", getattr(params.adapt.module, "HEAD", "changed")
    corrected = " and ".join(_corrections(params.retrain))
    if corrected and head == "changed":
        yield f"{key} corrects the head once more after {corrected}; 'none' keeps it, 'crt' makes another"
    family = loss_class(params.retrain.loss)
    afterwards = family.trained_classifier is not Loss.trained_classifier
    if family.corrects_class_sizes and afterwards and head == "new":
        yield f"{key} makes another head, so that {corrected} is of no effect on the adapted network"


def _unused(params: Params) -> Iterator[str]:
    """Pretraining that no method of the study starts from."""
    study, bilevel = params.study, params.search.bilevel
    used = {starting_paths(method, bilevel, params.search.method(method)) for method in study.methods}
    if used == {None}:
        yield f"study.methods: {short(study.methods)} start from no super-network; it is pretrained all the same"
    elif params.pretrain.single_path is not None and "single" not in used:
        yield f"pretrain.single_path: trained, but no entry of study.methods {short(study.methods)} starts from it"


def _data(params: Params) -> Iterator[str]:
    source, target = params.data.source, params.data.target
    if source.settings.name == target.settings.name:
        name = target.settings.name
        yield f"data.target.name: {name!r} is also data.source.name; allowed: two different names"
    watch: dict[str, str] = {str(role): folder for role, folder in params.data.watch.items()}
    for role, data in {"source": source, "target": target}.items():
        for key, folder in data.settings.own_folders().items():
            if watch.get(role) != str(folder):
                given = short(watch.get(role))
                yield f"data.watch.{role}: {given}; allowed: {short(str(folder))}, the folder of data.{role}.{key}"
        if role in watch and not data.settings.own_folders():
            given = short(watch[role])
            yield f"data.watch.{role}: {given}; allowed: no entry, since data.{role} names no folder"
    if shared := shared_images(target, source):
        yield f"data.target.{shared} as data.source; allowed: source and target that share no image"
    factors, natural = params.study.imbalance_factors, params.split.profile == NATURAL
    if (NATURAL in factors) != natural or (natural and len(factors) > 1):
        allowed = f"[{NATURAL}], since the data keeps its own" if natural else "numbers"
        profile = f"split.profile {params.split.profile!r}"
        yield f"study.imbalance_factors: {short(factors)} with {profile}; allowed: {allowed}"
    yield from _folds(params)


def _folds(params: Params) -> Iterator[str]:
    """A cross-validation needs a seed for each fold, and data that has no test part and keeps its own tail."""
    folds, seeds = params.split.folds, params.study.seeds
    if folds is None:
        return
    if params.split.profile != NATURAL:
        yield f"split.folds: {folds} with split.profile {params.split.profile!r}; allowed: null, or profile 'natural'"
    if not hasattr(params.data.target.module, "test_counts"):
        kind = params.data.target.name
        yield f"split.folds: {folds} with data.target.kind {kind!r}; allowed: null, since it has a test part"
    if sorted(seed % folds for seed in seeds) != list(range(folds)):
        yield (
            f"study.seeds: {short(seeds)} with split.folds {folds}; allowed: {folds} of different remainders, such as "
            f"{list(range(min(folds, 5)))}{'...' if folds > 5 else ''}, since a seed's remainder is its fold"
        )


def _trainings(params: Params) -> Iterator[str]:
    size = params.data.image_size
    for section in ("pretrain", "search", "retrain"):
        training = getattr(params, section).training
        key = f"{section}.training"
        if training.precision != "float32" and params.runtime.device == "cpu":
            yield f"{key}.precision: {training.precision!r} with runtime.device 'cpu'; allowed: 'float32' on a CPU"
        if training.crop_padding >= size:
            yield f"{key}.crop_padding: {training.crop_padding}; allowed: less than data.image_size ({size})"
    path, schedule = params.pretrain.single_path, params.pretrain.training.schedule
    if path is not None and isinstance(schedule, Cosine) and schedule.minimum > path.learning_rate:
        yield (
            f"pretrain.single_path.learning_rate: {path.learning_rate}; "
            f"allowed: at least pretrain.training.schedule.minimum ({schedule.minimum})"
        )


def _search(params: Params) -> Iterator[str]:
    bilevel, epochs = params.search.bilevel, params.search.training.epochs
    if isinstance(params.derive.epoch, int) and params.derive.epoch > epochs:
        yield f"derive.epoch: {params.derive.epoch}; allowed: 'last' or 1 to search.training.epochs ({epochs})"
    if params.search.training.nesterov and bilevel.order == "second":
        yield (
            "search.training.nesterov: true with search.bilevel.order 'second'; "
            "allowed: false, since the second order looks ahead by plain momentum"
        )
    if bilevel.freeze_backbone and bilevel.initialisation == "scratch":
        yield (
            "search.bilevel.freeze_backbone: true with search.bilevel.initialisation 'scratch'; "
            "allowed: true with 'pretrained' only"
        )
    for method in params.study.methods:
        yield from mistakes_of(method, params.search.method(method), bilevel, params.space)
        paths = starting_paths(method, bilevel, params.search.method(method))
        if paths == "single" and params.pretrain.single_path is None:
            yield (
                f"pretrain.single_path: null with study.methods entry {method!r}; "
                "allowed: a section, since the method starts from single paths"
            )
        yield from _method(f"search.{method}", params.search.method(method), params)


def _method(key: str, settings: Section, params: Params) -> Iterator[str]:
    """Settings of a search method that several methods have."""
    yield from _one_sided(f"{key}.mixing", getattr(settings, "mixing", None))
    yield from _one_sided(f"{key}.branches.mixing", getattr(getattr(settings, "branches", None), "mixing", None))
    padding, size = getattr(settings, "crop_padding", None), params.data.image_size
    if padding is not None and padding >= size:
        yield f"{key}.crop_padding: {padding}; allowed: less than data.image_size ({size})"
    if padding == 0 and not params.search.training.flip:
        yield f"{key}.crop_padding: 0 with search.training.flip false makes both views the same; allowed: above 0"


def _frozen(params: Params) -> Iterator[str]:
    if "frozen" in params.study.methods:
        for key in ("weights", "sha256"):
            if getattr(params.search.method("frozen"), key) is None:
                yield f"search.frozen.{key}: null with study.methods entry 'frozen'; allowed: those of a local file"
    given = getattr(params.search.method("given"), "genotypes", ()) if "given" in params.study.methods else ()
    named = [f"search.given.genotypes entry {short(line)}" for line in given if Genotype.from_json(line).pretrained]
    named += ["study.methods entry 'frozen'"] if "frozen" in params.study.methods else []
    if named and params.retrain.branches.name == "two":
        yield f"retrain.branches.name: 'two' with {named[0]}; allowed: any other"


def _retrain(params: Params) -> Iterator[str]:
    retrain, size = params.retrain, params.data.image_size
    if (name := retrain.branches.name) != "one":
        found = {
            "loss.name": (retrain.loss.name, "cross_entropy"),
            "reweighting.when": (retrain.reweighting.when, "never"),
            "network.auxiliary_weight": (retrain.network.auxiliary_weight, 0),
        }
        if name != "two":
            found["augmentation.image_mixing"] = (getattr(retrain.augmentation.image_mixing, "name", None), None)
        for key, (value, needed) in found.items():
            if value != needed:
                yield f"retrain.{key}: {short(value)} with retrain.branches.name {name!r}; allowed: {short(needed)}"
        yield from _one_sided("retrain.branches.mixing", getattr(retrain.branches, "mixing", None))
    corrections = _corrections(retrain)
    if isinstance(retrain.branches, SingleBranch) and len(corrections) > 1:
        first, *others = corrections
        yield f"{first} with {' and '.join(others)} corrects for class sizes twice; allowed: one of them"
    if corrections and getattr(params.adapt.settings, "tau", None):
        yield (
            f"adapt.tau: {params.adapt.settings.tau} with {' and '.join(corrections)} corrects for class sizes twice; "
            "allowed: null, which chooses tau, or another adapt.method"
        )
    epochs = retrain.training.epochs
    if retrain.reweighting.when == "deferred" and all(deferred(epoch, epochs) for epoch in range(epochs)):
        yield (
            f"retrain.reweighting.when: 'deferred' with retrain.training.epochs {epochs}, where it never begins; "
            "allowed: from 5 epochs"
        )
    if (too_few := too_few_parameters(params)) is not None:
        yield too_few
    if retrain.augmentation.cutout > size:
        yield f"retrain.augmentation.cutout: {retrain.augmentation.cutout}; allowed: at most data.image_size ({size})"
    if retrain.network.auxiliary_weight > 0 and size != 32:
        yield (
            f"retrain.network.auxiliary_weight: {retrain.network.auxiliary_weight} with data.image_size {size}; "
            "allowed: 0, since the auxiliary head needs 32 (a map of 8x8)"
        )


def too_few_parameters(params: Params, classes: int = 2) -> str | None:
    """What to say of a budget below that of any network of this depth for so many classes, whatever a search finds:
    pooling has no parameters.
    """
    retrain = params.retrain
    if retrain.network.parameters is None:
        return None
    cell = _cell("max_pool_3x3")
    for method in params.study.methods:
        if method in WITHOUT_SEARCH:
            continue
        genotype = Genotype(network=method) if method in HAND_MADE else Genotype(cell, cell)
        least = _least(retrain, genotype, classes, params.data.channels)
        if retrain.network.parameters * (1 + TOLERANCE) < least:
            return (
                f"retrain.network.parameters: {retrain.network.parameters} with retrain.network.cells "
                f"{retrain.network.cells} and study.methods entry {method!r}; allowed: at least {least}"
            )
    return None


def _perhaps_too_few_parameters(params: Params) -> Iterator[str]:
    """A budget that some genotypes meet and others do not, which is known after the search alone."""
    retrain, cell = params.retrain, _cell("sep_conv_5x5")
    if retrain.network.parameters is None or set(params.study.methods) <= {*HAND_MADE, *WITHOUT_SEARCH}:
        return
    least = _least(retrain, Genotype(cell, cell), 2, params.data.channels)
    if retrain.network.parameters * (1 + TOLERANCE) < least:
        yield (
            f"retrain.network.parameters: {retrain.network.parameters}: a genotype of wide separable convolutions "
            f"alone has {least} at least; the retraining of one that does not fit stops"
        )


def _cell(primitive: str) -> Edges:
    return ((primitive, 0), (primitive, 1)) * NODES


def _least(retrain: Retrain, genotype: Genotype, classes: int, channels: int) -> int:
    """Parameters of the narrowest network of `genotype`."""
    build = network_builder(retrain, genotype, classes, channels)
    return smallest_size(lambda width: build(width, False))


def _corrections(retrain: Retrain) -> list[str]:
    """Whatever of loss, sampler, branches and re-weighting makes classes count alike, as `key: value`."""
    one = isinstance(retrain.branches, SingleBranch)
    sampler = retrain.branches.sampler if isinstance(retrain.branches, SingleBranch) else ""
    found = {
        f"retrain.loss.name: {retrain.loss.name!r}": loss_class(retrain.loss).corrects_class_sizes,
        f"retrain.branches.sampler: {sampler!r}": one and sampler != "instance",
        f"retrain.branches.name: {retrain.branches.name!r}": not one,
        f"retrain.reweighting.when: {retrain.reweighting.when!r}": retrain.reweighting.when != "never",
    }
    return [text for text, corrects in found.items() if corrects]


def _one_sided(key: str, mixing: object) -> Iterator[str]:
    """A constant ratio under which one of two branches is never trained, though it predicts."""
    if isinstance(mixing, ConstantRatio) and mixing.ratio in (0, 1):
        yield f"{key}.ratio: {mixing.ratio:g} never trains one of the branches; allowed: between 0 and 1"

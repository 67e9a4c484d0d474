"""Typed parameters: one class a section of params.yaml, each field documented and bounded.

Nothing has a default: what a run used stands in params.yaml, whole. `load_params` reads, checks and returns it;
`json_schema` is what editors complete from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from tailnas.errors import UserError

Method = Literal[
    "darts",
    "darts_resample",
    "darts_reweight",
    "bbn",
    "bbn_hls",
    "imb_nas",
    "random",
    "random_best",
    "darts_v2",
    "resnet32",
]
"""Search methods; each is the module of this name in tailnas.search.methods."""

Precision = Literal["float32", "tf32", "bf16"]


def _no_duplicates(values: list[Any]) -> list[Any]:
    if len(set(values)) != len(values):
        raise ValueError("a list without duplicates")
    return values


class Section(BaseModel):
    """A section of params.yaml: strict types, no unknown keys, finite numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
_FACTOR_BOUNDS = Field(ge=1, le=1_000_000)
ImbalanceFactor = Annotated[int, _FACTOR_BOUNDS] | Annotated[float, _FACTOR_BOUNDS]
_Entries = Field(min_length=1, json_schema_extra={"uniqueItems": True})
FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]


class Study(Section):
    """What is computed: every method at every imbalance factor with every seed."""

    methods: Annotated[list[Method], _Entries, AfterValidator(_no_duplicates)] = Field(
        description="Search methods to run."
    )
    imbalance_factors: Annotated[list[ImbalanceFactor], _Entries, AfterValidator(_no_duplicates)] = Field(
        description="Largest class size over smallest class size of the training data."
    )
    seeds: Annotated[list[Seed], _Entries, AfterValidator(_no_duplicates)] = Field(
        description="Each seed varies split, pretraining, search, retraining and adaptation together."
    )


class Runtime(Section):
    """Where and how stages run. No stage depends on this section: it changes no result that is promised equal."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")] = Field(
        description="auto takes a GPU where there is one; cpu, cuda or cuda:N."
    )
    threads: Annotated[int, Field(ge=1, le=1024)] = Field(
        description="CPU threads of each stage. Never taken from --cores: the last bits of a result depend on it."
    )
    progress: Literal["auto", "bar", "lines", "none"] = Field(
        description="auto is a bar in a terminal and one line an epoch elsewhere."
    )


class _DataSet(Section):
    name: FolderName = Field(description="Folder below data/raw that holds the data set.")


class Digits(_DataSet):
    """scikit-learn's 1,797 handwritten digits of 8x8 grey pixels, enlarged."""

    kind: Literal["digits"]
    test_per_class: Annotated[int, Field(ge=1, le=170)] = Field(description="Images of each class in the test part.")
    seed: Seed = Field(description="Chooses the test part, the same for every study seed.")


class Glyphs(_DataSet):
    """Letters and digits drawn from the fonts that matplotlib ships, distorted, coloured and with noise."""

    kind: Literal["glyphs"]
    alphabet: Literal["letters", "digits", "all"] = Field(description="26 capital letters, 10 digits, or both.")
    train_per_class: Annotated[int, Field(ge=4, le=100_000)] = Field(description="Training images of each class.")
    test_per_class: Annotated[int, Field(ge=1, le=100_000)] = Field(description="Test images of each class.")
    seed: Seed = Field(description="Draws fonts, distortion, colours and noise.")


class _Cifar(_DataSet):
    root: str | None = Field(description="Local folder that holds the archive or its batches; null downloads it.")
    url: Annotated[str, Field(pattern=r"^https?://")] | None = Field(
        description="Address of the archive; null is the one that torchvision knows."
    )
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        description="Checksum of the archive; null is the one of the published archive."
    )


class Cifar10(_Cifar):
    """CIFAR-10: 50,000 + 10,000 colour images of 32x32 pixels in 10 classes."""

    kind: Literal["cifar10"]


class Cifar100(_Cifar):
    """CIFAR-100: 50,000 + 10,000 colour images of 32x32 pixels in 100 classes."""

    kind: Literal["cifar100"]


class Folder(_DataSet):
    """Your own images, one directory a class, any sizes and modes."""

    kind: Literal["folder"]
    path: Annotated[str, Field(min_length=1)] = Field(
        description="Folder with one directory a class, or with train/ and test/ that hold them."
    )
    test_per_class: Annotated[int, Field(ge=1)] = Field(
        description="Images of each class in the test part (of those in test/, where that exists)."
    )
    seed: Seed = Field(description="Chooses the test part, the same for every study seed.")


DataSet = Annotated[Digits | Glyphs | Cifar10 | Cifar100 | Folder, Field(discriminator="kind")]


class Data(Section):
    """The balanced source of the super-network and the target that is made long-tailed."""

    image_size: Annotated[int, Field(ge=16, le=1024, multiple_of=4)] = Field(
        description="Side of the square images in pixels. The cells halve it twice."
    )
    channels: Literal[1, 3] = Field(description="1 is grey, 3 is colour.")
    source: DataSet = Field(description="Balanced data on which the super-network is pretrained.")
    target: DataSet = Field(description="Data that is made long-tailed, searched on and evaluated.")


class Split(Section):
    """The long-tailed split of the target (method: section 1)."""

    profile: Literal["exp", "step", "natural"] = Field(
        description="exp: n_max * IF^(-c/(K-1)); step: second half of the classes n_max/IF; natural: as the data is."
    )
    class_order: Literal["shuffled", "given"] = Field(
        description="shuffled: a seeded permutation says which class is head and which tail; given: class order."
    )
    n_max: Annotated[int, Field(ge=4)] | None = Field(
        description="Images of the largest class; null takes as many as the smallest class of the data has."
    )


class Space(Section):
    """The DARTS search network (method: section 2)."""

    channels: Annotated[int, Field(ge=1, le=1024)] = Field(description="Channels of the first cells.")
    cells: Annotated[int, Field(ge=3, le=100)] = Field(
        description="Backbone cells L, reductions at L//3 and 2L//3; one more cell, or one a branch, follows."
    )


class _Training(Section):
    epochs: Count = Field(description="Passes over the data.")
    batch_size: Annotated[int, Field(ge=2, le=65536)] = Field(description="Images a step (of each branch).")
    learning_rate: Positive = Field(description="SGD learning rate at the start; falls along half a cosine.")
    learning_rate_min: NonNegative = Field(description="SGD learning rate at the end.")
    momentum: Fraction = Field(description="SGD momentum.")
    weight_decay: NonNegative = Field(description="SGD weight decay.")


class _NetworkTraining(_Training):
    gradient_clip: Positive | None = Field(description="Largest gradient norm; null does not clip.")
    crop_padding: Annotated[int, Field(ge=0, le=512)] = Field(description="Pixels of a random crop's zero padding.")
    flip: bool = Field(description="Random horizontal flips; wrong for letters and digits.")
    precision: Precision = Field(description="float32; on a GPU also tf32 or bf16.")


class Pretrain(_NetworkTraining):
    """Super-network on the balanced source (method: section 7)."""

    epochs: Annotated[int, Field(ge=0)] = Field(
        description="Passes over the data as a mixture: alphas fixed at 0, every primitive weighs 1/8. 0 keeps the "
        "initial weights."
    )
    single_path_epochs: Annotated[int, Field(ge=0)] = Field(
        description="Passes that follow on the same weights, one uniformly drawn path a step, for imb_nas; 0: none. "
        "Paths learn slowly: many times `epochs`."
    )
    single_path_learning_rate: Positive = Field(
        description="SGD learning rate at the start of single-path training, which also falls to `learning_rate_min`. "
        "Paths want a lower one than the mixture."
    )


class Search(_NetworkTraining):
    """Bilevel search on the imbalanced target (method: sections 3 to 5)."""

    order: Literal["first", "second"] = Field(description="Order of the architecture gradient.")
    initialisation: Literal["pretrained", "scratch"] = Field(description="Weights at the start of the search.")
    freeze_backbone: bool = Field(description="Train only alphas, last (head) cells and classifiers.")
    architecture_learning_rate: Positive = Field(description="Adam learning rate of the alphas.")
    architecture_betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = Field(
        description="Adam betas of the alphas."
    )
    architecture_weight_decay: NonNegative = Field(description="Adam weight decay of the alphas.")
    mixing_schedule: Literal["linear", "parabolic", "cosine", "smooth", "constant", "mirrored"] = Field(
        description="Mixing ratio mu(t) of the two branches. linear is our reading of HLS, parabolic is BBN's own."
    )
    mixing_constant: Annotated[float, Field(ge=0, le=1)] = Field(description="mu of the constant schedule.")
    mixing_time: Literal["midpoint", "start"] = Field(
        description="t of an epoch: midpoint is (epoch + 1/2)/epochs, start is BBN's epoch/epochs."
    )
    mix: Literal["logits", "probabilities"] = Field(
        description="What the branches mix: logits as BBN does, or softmax probabilities (a reading)."
    )
    hls_heads: Literal["constant", "mixing"] = Field(
        description="bbn_hls: learning rate of the heads' alphas; mixing is mu and 1 - mu (a reading)."
    )
    hls_backbone: Literal["constant", "mixing", "cosine", "linear", "polynomial", "balance"] = Field(
        description="bbn_hls: learning rate of the backbone's alphas; mixing is mu (a reading)."
    )
    hls_power: Positive = Field(description="Exponent p of the polynomial schedule (1 - t)^p.")
    beta: Fraction = Field(
        description="darts_reweight, imb_nas: beta of the class-balanced weights (1 - beta) / (1 - beta^n), n of the "
        "half in use."
    )
    budget: Literal["darts", "bbn"] = Field(
        description="random_best: the search whose multiply-adds x images it may spend, with these epochs and batches."
    )
    candidate_epochs: Count = Field(
        description="random_best: epochs that each random genotype is trained on the weight half."
    )
    adaptation: Literal["none", "head", "finetune", "scratch"] = Field(
        description="imb_nas: how the single-path super-network gets to the target. none: it does not, the source "
        "ranks; head: backbone frozen, linear head retrained with the re-weighted loss; finetune: all weights; "
        "scratch: trained on the target from random weights. `initialisation` is of no effect."
    )
    head_paths: Annotated[int, Field(ge=1, le=1024)] = Field(
        description="imb_nas, head: paths whose features the head is trained on; each is computed once."
    )
    candidates: Annotated[int, Field(ge=1, le=1_000_000)] = Field(description="imb_nas: sub-networks that are scored.")
    candidate_source: Literal["random", "evolution"] = Field(
        description="imb_nas: where sub-networks come from: random draws, or evolution that removes the oldest."
    )
    population: Annotated[int, Field(ge=2, le=1_000_000)] = Field(
        description="evolution: the youngest so many candidates may be parents; the first so many are random."
    )
    tournament: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        description="evolution: each parent is the best of so many drawn from the population."
    )
    statistics_batches: Annotated[int, Field(ge=0, le=1000)] = Field(
        description="imb_nas: batches on which the BatchNorm statistics of each candidate are estimated anew, at most "
        "one pass; 0 keeps those that all paths share, which makes the ranking noise."
    )
    hessian: bool = Field(
        description="Record the largest eigenvalue of the Hessian of the validation loss over the alphas, each epoch; "
        "costs some tens of passes over one batch."
    )
    cuda_graph: bool = Field(description="On a GPU, record the whole step once and replay it; no effect on a CPU.")


class Derive(Section):
    """Which alphas become the genotype."""

    epoch: Literal["last"] | Count = Field(description="The last epoch's alphas, or those after this epoch.")


class Retrain(_NetworkTraining):
    """The derived network, trained from random weights on the whole long-tailed training data."""

    channels: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        description="Channels of the first cells, doubled at each reduction; null fits them to `parameters`."
    )
    parameters: Annotated[int, Field(ge=1000, le=1_000_000_000)] | None = Field(
        description="Parameters to which each genotype is fitted by its channels, within 5%; null takes `channels`."
    )
    cells: Annotated[int, Field(ge=3, le=100)] = Field(description="Backbone cells; one more cell (the head) follows.")
    drop_path: Fraction = Field(description="Probability of a dropped path at the end; it grows from 0 linearly.")
    auxiliary_weight: NonNegative = Field(description="Weight of the auxiliary head's loss; 0 has no such head.")
    cutout: Annotated[int, Field(ge=0, le=1024)] = Field(
        description="Side in pixels of the square that is blanked in each image; 0 blanks nothing."
    )
    rand_augment_operations: Annotated[int, Field(ge=0, le=10)] = Field(
        description="RandAugment: operations on each image, drawn for each by itself; 0 does without."
    )
    rand_augment_magnitude: Annotated[int, Field(ge=0, le=30)] = Field(
        description="RandAugment: strength of every operation."
    )
    image_mixing: Literal["none", "mixup", "cutmix"] = Field(
        description="Mixes each image and its label with another of its batch: whole images, or a pasted box."
    )
    image_mixing_alpha: Positive = Field(description="Each image's share is drawn from Beta(alpha, alpha).")
    sampler: Literal["instance", "class_balanced", "square_root", "reversed", "progressively_balanced"] = Field(
        description="How often a class is drawn; progressively_balanced goes from instance to class_balanced."
    )
    branches: Literal["one", "two"] = Field(
        description="two: BBN's network with an instance and a class head, on instance-balanced and reversed batches; "
        "a factor of its own, to be compared with itself alone."
    )
    mixing_schedule: Literal["linear", "parabolic", "cosine", "smooth", "constant", "mirrored"] = Field(
        description="Two branches: mixing ratio mu(t); parabolic is BBN's own."
    )
    mixing_constant: Annotated[float, Field(ge=0, le=1)] = Field(description="Two branches: mu of constant.")
    mixing_time: Literal["midpoint", "start"] = Field(
        description="Two branches: t of an epoch; midpoint is (epoch + 1/2)/epochs, start is BBN's epoch/epochs."
    )
    loss: Literal["cross_entropy", "class_balanced", "focal", "ldam", "balanced_softmax", "logit_adjustment"] = Field(
        description="Loss of the training; logit_adjustment is cross-entropy with a classifier adjusted afterwards."
    )
    drw: bool = Field(description="Deferred re-weighting: class-balanced weights in the last 20% of the epochs only.")
    beta: Fraction = Field(description="beta of the class-balanced weights (1 - beta) / (1 - beta^n).")
    focal_gamma: NonNegative = Field(description="focal: exponent gamma of (1 - p)^gamma.")
    ldam_margin: Positive = Field(description="ldam: margin of the smallest class, the largest of all.")
    ldam_scale: Positive = Field(description="ldam: factor s of the cosines.")
    logit_adjustment_tau: NonNegative = Field(description="logit_adjustment: factor tau of the log priors.")


class Adapt(_Training):
    """Head adaptation on the frozen backbone (method: section 8)."""

    method: Literal["reweight", "crt", "lws", "tau_norm", "none"] = Field(
        description="reweight: retrain the head with the class-balanced loss; crt: train a new head on class-balanced "
        "batches; lws: learn one scale a class; tau_norm: divide class vectors by their norm^tau; none: keep the head."
    )
    beta: Fraction = Field(description="reweight: beta of the class-balanced weights (1 - beta) / (1 - beta^n).")
    tau: Annotated[float, Field(ge=0, le=2)] | None = Field(
        description="tau_norm: null chooses 0, 0.1, ..., 2 on the architecture half of a network trained on the weight "
        "half (which costs a second retraining), or takes 1 where a class has fewer than 5 images there."
    )


class Evaluate(Section):
    """Metrics on the balanced test set."""

    calibration_bins: Annotated[int, Field(ge=1, le=1000)] = Field(description="Bins of the calibration error.")
    batch_size: Annotated[int, Field(ge=1, le=65536)] = Field(description="Images a forward pass.")


class Params(Section):
    """The whole of params.yaml."""

    study: Study
    runtime: Runtime
    data: Data
    split: Split
    space: Space
    pretrain: Pretrain
    search: Search
    derive: Derive
    retrain: Retrain
    adapt: Adapt
    evaluate: Evaluate


class _SafeYaml12(yaml.SafeLoader):
    """Safe YAML whose numbers and booleans read as DVC reads them (YAML 1.2), without duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(None, None, f"key {key!r} is not text", key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(None, None, f"key {key!r} stands here twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _resolvers() -> None:
    import re

    replaced = {
        "tag:yaml.org,2002:float",
        "tag:yaml.org,2002:bool",
        "tag:yaml.org,2002:int",
        "tag:yaml.org,2002:timestamp",
    }
    _SafeYaml12.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in replaced]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    number = r"[-+]?(?:[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.[0-9]+(?:[eE][-+]?[0-9]+)?"
    _SafeYaml12.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(rf"^(?:{number}|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN))$"),
        list("-+0123456789."),
    )
    _SafeYaml12.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
    _SafeYaml12.add_implicit_resolver(
        "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
    )


_resolvers()


def read_yaml(path: Path) -> Any:
    """The document in `path`. Raises UserError where it cannot be read or is no YAML."""
    try:
        return _SafeYaml12(path.read_text(encoding="utf-8")).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(f"{path}:{where}: {error.problem}; allowed: YAML as in presets/") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}; allowed: YAML text in UTF-8") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}); allowed: a YAML file as in presets/") from None


def load_params(path: Path = Path("params.yaml")) -> Params:
    """All of `path`, checked: types, bounds, and combinations that no field can see alone.

    Raises UserError, one line for each mistake, each with the key, the value and what is allowed.
    """
    document = read_yaml(path)
    if not isinstance(document, dict):
        raise UserError(f"{path}: {_short(document)}; allowed: the sections {', '.join(Params.model_fields)}")
    try:
        params = Params.model_validate(document)
    except ValidationError as error:
        raise UserError("\n".join(dict.fromkeys(f"{path}: {line}" for line in _field_errors(error)))) from None
    mistakes = [f"{path}: {line}" for line in _combinations(params)]
    if mistakes:
        raise UserError("\n".join(mistakes))
    return params


def json_schema() -> dict[str, Any]:
    """JSON schema of params.yaml, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Params.model_json_schema()}


def _combinations(params: Params) -> Iterator[str]:
    """Mistakes that need more than one field to see."""
    if params.data.source.name == params.data.target.name:
        yield f"data.target.name: {params.data.target.name!r} is also data.source.name; allowed: two different names"
    if shared := _shared_images(params.data):
        yield f"{shared} as data.source; allowed: source and target that share no image"
    for section in ("pretrain", "search", "retrain", "adapt"):
        values = getattr(params, section)
        for key in ("learning_rate", "single_path_learning_rate"):
            rate = getattr(values, key, math.inf)
            if values.learning_rate_min > rate:
                yield (
                    f"{section}.learning_rate_min: {values.learning_rate_min}; "
                    f"allowed: at most {section}.{key} ({rate})"
                )
        precision = getattr(values, "precision", "float32")
        if precision != "float32" and params.runtime.device == "cpu":
            yield f"{section}.precision: {precision!r} with runtime.device 'cpu'; allowed: 'float32' on a CPU"
        padding = getattr(values, "crop_padding", 0)
        if padding >= params.data.image_size:
            yield f"{section}.crop_padding: {padding}; allowed: less than data.image_size ({params.data.image_size})"
    if isinstance(params.derive.epoch, int) and params.derive.epoch > params.search.epochs:
        yield f"derive.epoch: {params.derive.epoch}; allowed: 'last' or 1 to search.epochs ({params.search.epochs})"
    if params.search.freeze_backbone and params.search.initialisation == "scratch":
        yield "search.freeze_backbone: true with search.initialisation 'scratch'; allowed: true with 'pretrained' only"
    if (params.retrain.channels is None) == (params.retrain.parameters is None):
        yield (
            f"retrain.channels: {_short(params.retrain.channels)} with retrain.parameters "
            f"{_short(params.retrain.parameters)}; allowed: null for exactly one of the two"
        )
    yield from _two_branches(params.retrain)
    if params.retrain.cutout > params.data.image_size:
        yield f"retrain.cutout: {params.retrain.cutout}; allowed: at most data.image_size ({params.data.image_size})"
    if params.retrain.auxiliary_weight > 0 and params.data.image_size != 32:
        yield (
            f"retrain.auxiliary_weight: {params.retrain.auxiliary_weight} with data.image_size "
            f"{params.data.image_size}; allowed: 0, since the auxiliary head needs 32 (a map of 8x8)"
        )
    yield from _search_combinations(params)
    if params.split.profile == "natural" and len(params.study.imbalance_factors) > 1:
        yield (
            f"study.imbalance_factors: {_short(params.study.imbalance_factors)} with split.profile 'natural'; "
            "allowed: one entry, since the data keeps its own"
        )


def _two_branches(retrain: Retrain) -> Iterator[str]:
    """What BBN's training does not go with: it has samplers and re-balancing of its own."""
    needed = {"sampler": "instance", "loss": "cross_entropy", "drw": False, "auxiliary_weight": 0}
    for key, value in needed.items():
        if retrain.branches == "two" and getattr(retrain, key) != value:
            found = _short(getattr(retrain, key))
            yield f"retrain.{key}: {found} with retrain.branches 'two'; allowed: {_short(value)}"


def _shared_images(data: Data) -> str | None:
    """The key and value by which source and target are the same images. Glyphs are drawn anew for each name."""
    source, target = data.source, data.target
    if isinstance(source, Folder) and isinstance(target, Folder):
        folders = Path(source.path).resolve(), Path(target.path).resolve()
        if folders[0].is_relative_to(folders[1]) or folders[1].is_relative_to(folders[0]):
            return f"data.target.path: {target.path!r} holds the same images"
        return None
    if source.kind == target.kind and not isinstance(target, Glyphs):
        return f"data.target.kind: {target.kind!r} is the same images"
    return None


def _search_combinations(params: Params) -> Iterator[str]:
    search = params.search
    for method in params.study.methods:
        if pretrained_paths(method, search) == "single" and not params.pretrain.single_path_epochs:
            yield (
                f"pretrain.single_path_epochs: 0 with study.methods entry {method!r}; "
                "allowed: at least 1, or 'scratch' as search.adaptation"
            )
    if "imb_nas" in params.study.methods and search.candidate_source == "evolution":
        if search.population > search.candidates:
            yield f"search.population: {search.population}; allowed: at most search.candidates ({search.candidates})"
        if search.tournament > search.population:
            yield f"search.tournament: {search.tournament}; allowed: at most search.population ({search.population})"


def pretrained_paths(method: str, search: Search) -> Literal["mixture", "single"] | None:
    """Which pretrained super-network the search `method` starts from; None where it needs none."""
    if method == "imb_nas":
        return None if search.adaptation == "scratch" else "single"
    if method in ("random", "random_best", "darts_v2", "resnet32") or search.initialisation == "scratch":
        return None
    return "mixture"


def _field_errors(error: ValidationError) -> Iterator[str]:
    schema = Params.model_json_schema()
    for problem in error.errors(include_url=False):
        key, node, parent = _locate(schema, problem["loc"])
        value = _short(problem["input"])
        if problem["type"] == "missing":
            yield f"{key}: missing; allowed: {_describe(node, schema)}"
        elif problem["type"] == "extra_forbidden":
            yield f"{key}: unknown key with value {value}; allowed: {', '.join(parent['properties'])}"
        elif problem["type"] in {"union_tag_invalid", "union_tag_not_found"}:
            kind = problem["input"].get("kind", "missing")
            yield f"{key}.kind: {_short(kind)}; allowed: {', '.join(node['discriminator']['mapping'])}"
        elif problem["type"] == "value_error":
            yield f"{key}: {value}; allowed: {problem['msg'].removeprefix('Value error, ')}"
        else:
            yield f"{key}: {value}; allowed: {_describe(node, schema)}"


def _locate(schema: dict[str, Any], location: tuple[int | str, ...]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The dotted key of a pydantic error, its JSON schema node and that node's parent.

    pydantic puts the branch that it took in a union into the location; that is no key of the user's.
    """
    key: list[str] = []
    node, parent = _resolve(schema, schema), schema
    for part in location:
        if isinstance(part, str) and part in node.get("discriminator", {}).get("mapping", {}):
            node = _resolve({"$ref": node["discriminator"]["mapping"][part]}, schema)
        elif isinstance(part, int) or "properties" in node:
            key.append(str(part))
            child = node.get("items", {}) if isinstance(part, int) else node["properties"].get(part, {})
            parent, node = node, _resolve(child, schema)
    return ".".join(key), node, parent


def _short(value: Any) -> str:
    try:
        text = json.dumps(value, default=str)
    except ValueError:
        text = repr(value)
    if isinstance(value, float) and not math.isfinite(value):
        text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _resolve(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = {**schema["$defs"][node["$ref"].rsplit("/", 1)[1]], **{k: v for k, v in node.items() if k != "$ref"}}
    return node


def _describe(node: dict[str, Any], schema: dict[str, Any]) -> str:
    """What a JSON schema node allows, in words."""
    choices = node.get("anyOf", node.get("oneOf", []))
    if choices:
        return " or ".join(dict.fromkeys(_describe(_resolve(choice, schema), schema) for choice in choices))
    if "const" in node:
        return json.dumps(node["const"])
    if "enum" in node:
        return ", ".join(map(str, node["enum"]))
    kind = node.get("type")
    if kind == "object":
        return "a section with the keys " + ", ".join(node["properties"])
    if kind == "array":
        size = node["minItems"] if node.get("maxItems") == node["minItems"] else f"{node['minItems']} or more"
        unique = " different" if node.get("uniqueItems") else ""
        return f"a list of {size}{unique} entries, each {_describe(_resolve(node['items'], schema), schema)}"
    if kind == "null":
        return "null"
    words = {"integer": "an integer", "number": "a finite number", "boolean": "true or false", "string": "text"}
    limits = [
        text.format(node[name])
        for name, text in {
            "minimum": "at least {}",
            "exclusiveMinimum": "above {}",
            "maximum": "at most {}",
            "exclusiveMaximum": "below {}",
            "multipleOf": "a multiple of {}",
            "pattern": "matching {}",
            "minLength": "not empty",
            "maxLength": "at most {} characters",
        }.items()
        if name in node
    ]
    return " ".join([words.get(str(kind), "a value"), *([", ".join(limits)] if limits else [])])

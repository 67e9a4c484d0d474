"""The two sides of the comparison: the step that a stage runs, and the plain one. Same sizes, same data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.cases import CLASSES, IN_CHANNELS, Case

if TYPE_CHECKING:
    from tailnas.batches.device_images import DeviceImages

SIDES = ("plain", "tailnas")
IMAGES = 2048
MIXING_RATIO = 0.5


@dataclass(frozen=True)
class Side:
    """run(steps, step_done): that many steps, each followed by a call of `step_done`; waits for no GPU.
    eager: one step, operation by operation, to be counted.
    """

    run: Callable[[int, Callable[[], None]], object]
    eager: Callable[[], object]


def build(side: str, case: Case, device: torch.device, threads: int, precision: str) -> Side:
    """The side ready to run; a step of a search is one alpha step and one weight step."""
    makers = {
        ("plain", True): plain_training,
        ("plain", False): plain_side,
        ("tailnas", True): tailnas_training,
        ("tailnas", False): tailnas_side,
    }
    return makers[side, case.step == "derived"](case, device, threads, precision)


def random_images(case: Case, device: torch.device) -> DeviceImages:
    """Images at random with as many of each class."""
    from tailnas.batches.device_images import DeviceImages

    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (IMAGES, IN_CHANNELS, case.image, case.image), generator=generator, dtype=torch.uint8)
    return DeviceImages(pixels.to(device), (torch.arange(IMAGES) % CLASSES).to(device))


def plain_arithmetic(threads: int, precision: str) -> None:
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


def tailnas_side(case: Case, device: torch.device, threads: int, precision: str) -> Side:
    """What an epoch of the search stage runs, `StepRunner` on `Bilevel`, with the default study's settings; batches
    are drawn and augmented on the way.
    """
    from tailnas.batches.augmentation import Augmentation
    from tailnas.batches.batches import Batches
    from tailnas.batches.device_images import Normalisation
    from tailnas.data.split_file import HALVES, Half
    from tailnas.foundation.seeding import torch_generator
    from tailnas.imbalance.samplers import make_sampler
    from tailnas.search.bilevel import Bilevel
    from tailnas.search.objective import Objective, SingleBranch, TwoBranch
    from tailnas.search.steps import StepRunner
    from tailnas.space.device import prepare
    from tailnas.space.supernet import SuperNet, default_reductions, initial_alphas, seeded_initialisation
    from tailnas.space.two_branch import TwoBranchSuperNet
    from tailnas.validate.parameters import load_params

    prepare(str(device), threads, precision)
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    training = params.search.training.model_copy(update={"precision": precision, "flip": True})
    settings = params.search.bilevel.model_copy(
        update={"order": "second" if case.step == "second" else "first", "freeze_backbone": False}
    )
    objective: Objective
    with seeded_initialisation(0):
        if case.step == "bbn_hls":
            two = TwoBranchSuperNet(case.channels, case.cells, CLASSES, IN_CHANNELS)
            objective = TwoBranch(two.to(device), "logits", precision)
        else:
            deep = case.step == "darts_deep"
            one = SuperNet(
                case.channels,
                case.cells + deep,
                CLASSES,
                IN_CHANNELS,
                reductions=default_reductions(case.cells),
            )
            objective = SingleBranch(one.to(device), precision)
    objective.network.train()
    alphas = initial_alphas(objective.components, torch_generator(0, "alphas"))
    bilevel = Bilevel(objective, {name: values.to(device) for name, values in alphas.items()}, training, settings)
    objective.set_mixing_ratio(MIXING_RATIO)

    data = random_images(case, device)
    labels, normalisation = data.labels.cpu(), Normalisation.of(data.images)

    def batches(half: Half) -> list[Batches]:
        return [
            Batches(
                data,
                make_sampler(sampler, labels, CLASSES, torch_generator(0, half, sampler)),
                case.batch // objective.branches,
                normalisation,
                Augmentation(training.crop_padding, training.flip) if half == "weight" else None,
                torch_generator(0, half, sampler, "augmentation"),
            )
            for sampler in ("instance", "reversed")[: objective.branches]
        ]

    weight_batches, architecture_batches = (batches(half) for half in HALVES)

    def eager() -> None:
        halves = (weight_batches, architecture_batches)
        bilevel.step(*(tuple(source.make(source.plan(1).steps[0]) for source in half) for half in halves))

    runner = StepRunner(bilevel, weight_batches, architecture_batches, cuda_graph=params.runtime.cuda_graph)
    return Side(runner.epoch, eager)


def plain_side(case: Case, device: torch.device, threads: int, precision: str) -> Side:
    """`benchmarks.plain_search` on batches that lie ready on the device: loading and augmenting cost it nothing."""
    from benchmarks.plain_darts import SearchNetwork, TwoBranchNetwork, initial_alphas
    from benchmarks.plain_search import PlainSearch, Recipe, mixed_loss, plain_loss

    plain_arithmetic(threads, precision)
    generator = torch.Generator().manual_seed(0)
    components = ["normal", "reduce"]
    one: SearchNetwork | None = None
    two: TwoBranchNetwork | None = None
    if case.step == "bbn_hls":
        components += ["instance_head", "class_head"]
        two = TwoBranchNetwork(case.channels, case.cells, CLASSES, IN_CHANNELS).to(device)
    else:
        reductions = (case.cells // 3, 2 * case.cells // 3)
        depth = case.cells + (case.step == "darts_deep")
        one = SearchNetwork(case.channels, depth, CLASSES, IN_CHANNELS, reductions).to(device)
    alphas = {
        name: alpha.detach().to(device).requires_grad_()
        for name, alpha in initial_alphas(components, generator).items()
    }
    network = one or two
    assert network is not None
    search = PlainSearch(network, alphas, Recipe(), second_order=case.step == "second")

    def batch(count: int) -> tuple[Tensor, Tensor]:
        images = torch.randn(count, IN_CHANNELS, case.image, case.image, generator=generator)
        return images.to(device), torch.randint(CLASSES, (count,), generator=generator).to(device)

    branches = 1 if two is None else 2
    training, validation = ([batch(case.batch // branches) for _ in range(branches)] for _ in range(2))

    def loss(batches: list[tuple[Tensor, Tensor]]) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            if two is not None:
                return mixed_loss(two, alphas, batches[0], batches[1], MIXING_RATIO)
            assert one is not None
            return plain_loss(one, alphas, batches[0])

    def step() -> None:
        search.step(lambda: loss(training), lambda: loss(validation))

    def run(steps: int, step_done: Callable[[], None]) -> None:
        for _ in range(steps):
            step()
            step_done()

    return Side(run, step)


def tailnas_training(case: Case, device: torch.device, threads: int, precision: str) -> Side:
    """What an epoch of the retrain stage runs, `fit`, with the default study's settings; batches are drawn and
    augmented on the way.
    """
    from tailnas.batches.augmentation import Augmentation
    from tailnas.batches.batches import Batches
    from tailnas.batches.device_images import Normalisation
    from tailnas.foundation.seeding import torch_generator
    from tailnas.genotype.genotype import DARTS_V2
    from tailnas.imbalance.samplers import make_sampler
    from tailnas.space.device import autocast, prepare
    from tailnas.space.network import Network
    from tailnas.space.supernet import seeded_initialisation
    from tailnas.training.loop import InnerLoop
    from tailnas.training.supervised import fit
    from tailnas.validate.parameters import load_params

    prepare(str(device), threads, precision)
    training = load_params(Path(__file__).parents[1] / "params.yaml").retrain.training
    with seeded_initialisation(0):
        network = Network(DARTS_V2, case.channels, case.cells, CLASSES, in_channels=IN_CHANNELS).to(device)
    data = random_images(case, device)
    batches = Batches(
        data,
        make_sampler("instance", data.labels.cpu(), CLASSES, torch_generator(0, "sampler")),
        case.batch,
        Normalisation.of(data.images),
        Augmentation(training.crop_padding, True),
        torch_generator(0, "augmentation"),
    )

    def loss(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(device, precision):
            logits = network(images)
        return F.cross_entropy(logits.float(), targets), logits

    class Steps:
        """An epoch of so many steps."""

        def __init__(self, steps: int) -> None:
            self.steps_per_epoch = steps

        def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
            return (batches.make(batches.plan(1).steps[0]) for _ in range(self.steps_per_epoch))

        def state_dict(self) -> dict[str, Any]:
            return batches.state_dict()

        def load_state_dict(self, state: dict[str, Any]) -> None:
            batches.load_state_dict(state)

    def run(steps: int, step_done: Callable[[], None]) -> None:
        once = training.model_copy(update={"epochs": 1})
        loop = InnerLoop("retrain", step_done)
        fit(network, loss, Steps(steps), once, loop, gradient_clip=training.gradient_clip)

    return Side(run, lambda: run(1, lambda: None))


def plain_training(case: Case, device: torch.device, threads: int, precision: str) -> Side:
    """`benchmarks.plain_darts.DerivedNetwork` and SGD on a batch that lies ready on the device."""
    from benchmarks.plain_darts import DerivedNetwork
    from benchmarks.plain_search import Recipe
    from tailnas.genotype.genotype import DARTS_V2

    plain_arithmetic(threads, precision)
    recipe = Recipe()
    published = DARTS_V2.normal, DARTS_V2.reduce
    network = DerivedNetwork(*published, case.channels, case.cells, CLASSES, IN_CHANNELS).to(device)
    optimiser = torch.optim.SGD(
        network.parameters(), lr=recipe.weight_lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    images = torch.randn(case.batch, IN_CHANNELS, case.image, case.image).to(device)
    labels = (torch.arange(case.batch) % CLASSES).to(device)

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = F.cross_entropy(network(images), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimiser.step()

    def run(steps: int, step_done: Callable[[], None]) -> None:
        for _ in range(steps):
            step()
            step_done()

    return Side(run, step)

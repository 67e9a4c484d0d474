"""The runner's epochs are the steps of `Bilevel` on the planned batches; a recorded GPU step is the same step."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from tailnas.batches.augmentation import Augmentation
from tailnas.batches.batches import Batches
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.imbalance.samplers import make_sampler
from tailnas.methods.beta_darts import BetaDecay
from tailnas.methods.darts_minus import AuxiliarySkip
from tailnas.methods.drnas import Dirichlet
from tailnas.search.bilevel import Bilevel
from tailnas.search.objective import TwoBranch
from tailnas.search.relaxation import Relaxation
from tailnas.search.steps import EAGER_STEPS, StepRunner
from tailnas.space.supernet import seeded_initialisation
from tailnas.space.two_branch import TwoBranchSuperNet
from tests.unit.small_search import PARAMS

CLASSES = 3
RATES = {"backbone": 0.05, "instance_head": 0.04, "class_head": 0.01}


class Counting(TwoBranch):
    """Counts how often its loss is computed from Python."""

    calls = 0

    def loss(self, *inputs):
        self.calls += 1
        return super().loss(*inputs)


def build(
    device: str, order: str, relaxation: Relaxation | None = None
) -> tuple[Bilevel, list[Batches], list[Batches]]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(24) % CLASSES
    images = torch.randint(0, 256, (24, 1, 16, 16), generator=generator, dtype=torch.uint8)
    data = DeviceImages(images.to(device), labels.to(device))

    def sources(half: str) -> list[Batches]:
        return [
            Batches(
                data,
                make_sampler(name, labels, CLASSES, torch.Generator().manual_seed(seed)),
                8,
                Normalisation.of(images),
                Augmentation(2, True) if half == "weight" else None,
                torch.Generator().manual_seed(seed + 10),
            )
            for seed, name in enumerate(("instance", "reversed"))
        ]

    with seeded_initialisation(0):
        network = TwoBranchSuperNet(2, 3, CLASSES, 1).to(device)
    relaxation = relaxation or Relaxation()
    alphas = relaxation.parameters(network.components, torch.Generator().manual_seed(1))
    settings = PARAMS.search.bilevel.model_copy(update={"order": order})
    objective = Counting(network, relaxation=relaxation)
    alphas = {name: values.to(device) for name, values in alphas.items()}
    relaxation.place(alphas, 0)
    bilevel = Bilevel(objective, alphas, PARAMS.search.training, settings)
    return bilevel, sources("weight"), sources("architecture")


def run(bilevel: Bilevel, runner: StepRunner, epochs: int) -> list[dict[str, torch.Tensor]]:
    losses = []
    for epoch in range(epochs):
        bilevel.objective.set_mixing_ratio(1 - epoch / epochs)
        bilevel.objective.relaxation.start_epoch(epoch / epochs, 3)
        bilevel.set_learning_rates(0.05 / (epoch + 1), RATES)
        losses += runner.epoch(3, lambda: None)
    return losses


def test_an_epoch_is_its_planned_steps() -> None:
    bilevel, weights, architecture = build("cpu", "first")
    bilevel.set_learning_rates(0.05, RATES)
    done: list[int] = []
    losses = StepRunner(bilevel, weights, architecture, cuda_graph=True).epoch(3, lambda: done.append(len(done)))
    assert done == [0, 1, 2]

    other, weights, architecture = build("cpu", "first")
    other.set_learning_rates(0.05, RATES)
    training = zip(*(source.epoch(3) for source in weights), strict=True)
    validation = zip(*(source.epoch(3) for source in architecture), strict=True)
    for mine, pair, architecture_pair in zip(losses, training, validation, strict=True):
        theirs = other.step(pair, architecture_pair)
        assert {name: float(value) for name, value in mine.items()} == {n: float(v) for n, v in theirs.items()}
    for name, values in bilevel.alphas.items():
        assert torch.equal(values, other.alphas[name])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("order", "losses_per_step", "relaxation"),
    [
        ("first", 2, Relaxation),
        ("second", 5, Relaxation),
        ("first", 2, partial(Dirichlet, "l2", 0.001)),
        ("first", 2, partial(AuxiliarySkip, 1.0, "linear")),
        ("first", 2, partial(BetaDecay, 50.0)),
    ],
)
def test_a_recorded_step_is_the_same_step(
    order: str, losses_per_step: int, relaxation: Callable[[], Relaxation]
) -> None:
    """Draws and schedules are fresh in every replay."""
    torch.backends.cudnn.deterministic = True
    recorded, eager = build("cuda", order, relaxation()), build("cuda", order, relaxation())
    with_graph = run(recorded[0], StepRunner(*recorded, cuda_graph=True), 4)
    without = run(eager[0], StepRunner(*eager, cuda_graph=False), 4)
    assert recorded[0].objective.calls == (EAGER_STEPS + 1) * losses_per_step, (
        "twelve steps, of which the fourth is recorded"
    )
    assert eager[0].objective.calls == 12 * losses_per_step
    for mine, theirs in zip(with_graph, without, strict=True):
        for name in mine:
            torch.testing.assert_close(mine[name], theirs[name], rtol=1e-3, atol=1e-4)
    for name, values in recorded[0].alphas.items():
        torch.testing.assert_close(values, eager[0].alphas[name], rtol=1e-2, atol=1e-3)

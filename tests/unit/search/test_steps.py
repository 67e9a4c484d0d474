"""The runner's epochs are the steps of `Bilevel` on the planned batches; a recorded GPU step is the same step."""

import copy

import pytest
import torch

from tailnas.data.augmentation import Augmentation
from tailnas.data.batches import Batches
from tailnas.data.device import DeviceImages, Normalisation
from tailnas.imbalance.samplers import make_sampler
from tailnas.params import Search
from tailnas.search.bilevel import Bilevel
from tailnas.search.objective import TwoBranch
from tailnas.search.steps import StepRunner
from tailnas.space.supernet import initial_alphas, seeded_initialisation
from tailnas.space.two_branch import TwoBranchSuperNet

CLASSES = 3


def settings(order: str) -> Search:
    return Search.model_construct(
        order=order,
        freeze_backbone=False,
        learning_rate=0.05,
        momentum=0.9,
        weight_decay=3e-4,
        gradient_clip=5.0,
        architecture_learning_rate=0.05,
        architecture_betas=[0.5, 0.999],
        architecture_weight_decay=1e-3,
    )


def build(device: str, order: str) -> tuple[Bilevel, list[Batches], list[Batches]]:
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
                Augmentation(2, True) if half == "weights" else None,
                torch.Generator().manual_seed(seed + 10),
            )
            for seed, name in enumerate(("instance", "reversed"))
        ]

    with seeded_initialisation(0):
        network = TwoBranchSuperNet(2, 3, CLASSES, 1).to(device)
    alphas = initial_alphas(network.components, torch.Generator().manual_seed(1))
    bilevel = Bilevel(TwoBranch(network), {name: a.to(device) for name, a in alphas.items()}, settings(order))
    return bilevel, sources("weights"), sources("architecture")


def run(bilevel: Bilevel, runner: StepRunner, epochs: int) -> list[dict[str, torch.Tensor]]:
    losses = []
    for epoch in range(epochs):
        bilevel.objective.set_mixing_ratio(1 - epoch / epochs)
        bilevel.set_learning_rates(0.05 / (epoch + 1), {"backbone": 0.05, "instance_head": 0.04, "class_head": 0.01})
        losses += runner.epoch(3, lambda: None)
    return losses


def test_an_epoch_is_its_planned_steps() -> None:
    bilevel, weights, architecture = build("cpu", "first")
    by_hand = copy.deepcopy((bilevel, weights, architecture))
    runner = StepRunner(bilevel, weights, architecture, cuda_graph=True)
    bilevel.set_learning_rates(0.05, {"backbone": 0.05, "instance_head": 0.04, "class_head": 0.01})
    losses = runner.epoch(3, lambda: None)

    other, weights, architecture = by_hand
    other.set_learning_rates(0.05, {"backbone": 0.05, "instance_head": 0.04, "class_head": 0.01})
    training = zip(*(source.epoch(3) for source in weights), strict=True)
    validation = zip(*(source.epoch(3) for source in architecture), strict=True)
    for mine, pair, architecture_pair in zip(losses, training, validation, strict=True):
        theirs = other.step(pair, architecture_pair)
        assert {name: float(value) for name, value in mine.items()} == {n: float(v) for n, v in theirs.items()}
    for name, values in bilevel.alphas.items():
        assert torch.equal(values, other.alphas[name])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("order", ["first", "second"])
def test_a_recorded_step_is_the_same_step(order: str) -> None:
    torch.backends.cudnn.deterministic = True
    recorded, eager = build("cuda", order), build("cuda", order)
    runner = StepRunner(*recorded, cuda_graph=True)
    with_graph = run(recorded[0], runner, 4)
    without = run(eager[0], StepRunner(*eager, cuda_graph=False), 4)
    assert runner._graph is not None
    for mine, theirs in zip(with_graph, without, strict=True):
        for name in mine:
            torch.testing.assert_close(mine[name], theirs[name], rtol=1e-3, atol=1e-4)
    for name, values in recorded[0].alphas.items():
        torch.testing.assert_close(values, eager[0].alphas[name], rtol=1e-2, atol=1e-3)

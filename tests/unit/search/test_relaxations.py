"""What each method makes of its alphas, against its paper's equations in float64."""

import math

import pytest
import torch
from scipy import special

from tailnas.genotype.genotype import derive_genotype
from tailnas.genotype.primitives import PRIMITIVES, edge_index
from tailnas.methods.beta_darts import BetaDecay
from tailnas.methods.darts_minus import AuxiliarySkip
from tailnas.methods.drnas import Dirichlet
from tailnas.methods.pc_darts import PartialChannels, edge_weights
from tailnas.search.bilevel import Bilevel
from tailnas.search.independent import Independent
from tailnas.search.objective import SingleBranch
from tailnas.search.relaxation import Relaxation, as_alphas, component
from tailnas.space.cell import MixedEdge

COMPONENTS = ("normal", "reduce", "instance_head")
EXACT = {"rtol": 1e-12, "atol": 1e-14}


def drawn(relaxation: Relaxation, scale: float = 1.0) -> dict[str, torch.Tensor]:
    """Architecture parameters in float64, of size `scale`."""
    names = relaxation.parameters(COMPONENTS, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    parameters = {
        name: (scale * torch.randn(values.shape, dtype=torch.float64, generator=generator)).requires_grad_()
        for name, values in names.items()
    }
    relaxation.place(parameters, 0)
    return parameters


def primitive(name: str) -> int:
    return PRIMITIVES.index(name)


@pytest.mark.parametrize(
    "relaxation",
    [
        Relaxation(),
        PartialChannels(4, True, 0.0),
        AuxiliarySkip(1.0, "linear"),
        Independent(10.0),
        BetaDecay(50.0),
        Dirichlet("l2", 0.1),
    ],
    ids=lambda relaxation: type(relaxation).__name__,
)
def test_alphas_start_as_those_of_darts(relaxation):
    """So that a comparison with `darts` under one seed is one of methods."""
    plain = Relaxation().parameters(COMPONENTS, torch.Generator().manual_seed(7))
    found = relaxation.parameters(COMPONENTS, torch.Generator().manual_seed(7))
    assert all(torch.equal(found[name], values) for name, values in plain.items())
    assert {component(name) for name in found} == set(COMPONENTS)


@pytest.mark.parametrize(("decay", "at_a_quarter"), [("linear", 0.75), ("cosine", (1 + math.sqrt(0.5)) / 2)])
def test_the_auxiliary_skip_of_darts_minus(decay, at_a_quarter):
    """beta x + sum_p softmax(alpha)_p p(x), beta decaying to 0."""
    relaxation = AuxiliarySkip(0.8, decay)
    alphas = drawn(relaxation)
    for t, factor in ((0.0, 1.0), (0.25, at_a_quarter), (1.0, 0.0)):
        relaxation.start_epoch(t, 1)
        assert relaxation.columns() == {"auxiliary_skip": pytest.approx(0.8 * factor, abs=1e-12)}
    relaxation.start_epoch(0.25, 1)
    edge = MixedEdge(3, 1).double()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    plain = edge(images, alphas["normal"].softmax(-1)[2])
    found = edge(images, relaxation.weights(alphas, "weight")["normal"][2])
    torch.testing.assert_close(found, plain + 0.8 * at_a_quarter * images, **EXACT)
    assert relaxation.recorded(alphas)["reduce"] is alphas["reduce"], "the auxiliary one does not compete"


def test_the_regulariser_of_beta_darts():
    """lambda log sum exp(alpha): its gradient is lambda times the softmax, over edges; lambda grows linearly."""
    relaxation = BetaDecay(50.0)
    alphas = drawn(relaxation)
    for t, strength in ((0.0, 0.0), (0.5, 25.0), (1.0, 50.0)):
        relaxation.start_epoch(t, 1)
        regulariser = relaxation.regulariser(alphas)
        logs = [math.log(sum(map(math.exp, row))) for values in alphas.values() for row in values.tolist()]
        assert float(regulariser.detach()) == pytest.approx(strength * sum(logs) / 14, rel=1e-12)
        gradient = torch.autograd.grad(regulariser, alphas["reduce"])[0]
        torch.testing.assert_close(gradient, strength / 14 * alphas["reduce"].softmax(-1).detach(), **EXACT)
    assert torch.equal(relaxation.weights(alphas, "weight")["normal"], alphas["normal"].softmax(-1))


def test_the_sigmoids_of_fair_darts():
    relaxation = Independent(10.0)
    alphas = drawn(relaxation, 2.0)
    weights = relaxation.weights(alphas, "architecture")
    torch.testing.assert_close(weights["reduce"].detach().numpy(), special.expit(alphas["reduce"].detach().numpy()))
    away = [
        (1 / (1 + math.exp(-alpha)) - 0.5) ** 2
        for values in alphas.values()
        for row in values.tolist()
        for alpha in row[1:]
    ]
    assert float(relaxation.regulariser(alphas).detach()) == pytest.approx(-10 * sum(away) / len(away), rel=1e-12)


def test_fair_darts_keeps_the_two_edges_with_the_largest_sigmoids():
    """Edges whose softmax would be sharp lose to one on which several primitives are likely."""
    relaxation = Independent(10.0)
    alphas = {name: torch.full((14, 8), -4.0) for name in COMPONENTS}
    edges = {
        0: (primitive("skip_connect"), 0.5),
        1: (primitive("max_pool_3x3"), 0.6),
        2: (primitive("sep_conv_5x5"), 2.0),
    }
    for source, (index, alpha) in edges.items():
        alphas["normal"][edge_index(1, source), index] = alpha
    alphas["normal"][edge_index(1, 2), 1:] = torch.tensor([1.9, 1.9, 1.9, 1.9, 2.0, 1.9, 1.9])
    assert derive_genotype(alphas).normal[2:4] == (("max_pool_3x3", 1), ("skip_connect", 0))
    found = derive_genotype(relaxation.recorded(alphas)).normal[2:4]
    assert found == (("sep_conv_5x5", 2), ("max_pool_3x3", 1))
    alphas["normal"][:, 0] = 9.0
    assert derive_genotype(relaxation.recorded(alphas)).normal[2:4] == found, "`none` has no say"


def test_the_edges_of_pc_darts():
    """Softmax over the edges of a node, times the softmax over primitives; the bypass has the edge's weight alone."""
    relaxation = PartialChannels(4, True, 0.0)
    parameters = drawn(relaxation)
    betas = parameters["reduce.edges"].tolist()
    edges = []
    for node, start in enumerate((0, 2, 5, 9)):
        exponentials = [math.exp(beta) for beta in betas[start : start + node + 2]]
        edges += [value / sum(exponentials) for value in exponentials]
    assert edge_weights(parameters["reduce.edges"]).tolist() == pytest.approx(edges, rel=1e-12)
    found = relaxation.weights(parameters, "weight")["reduce"]
    wanted = parameters["reduce"].softmax(-1) * torch.tensor(edges, dtype=torch.float64)[:, None]
    torch.testing.assert_close(found[:, :8], wanted, **EXACT)
    assert found[:, 8].tolist() == pytest.approx(edges, rel=1e-12)

    genotype = derive_genotype(relaxation.recorded(parameters))
    strength = wanted[:, 1:].max(1).values.tolist()
    for node, start in enumerate((0, 2, 5, 9)):
        kept = sorted(range(node + 2), key=lambda source: strength[start + source], reverse=True)[:2]
        assert [source for _, source in genotype.reduce[2 * node : 2 * node + 2]] == kept
        for name, source in genotype.reduce[2 * node : 2 * node + 2]:
            assert primitive(name) == 1 + int(wanted[start + source, 1:].argmax())


def test_pc_darts_without_edge_normalisation_has_the_alphas_of_darts():
    relaxation = PartialChannels(2, False, 0.0)
    parameters = drawn(relaxation)
    assert set(parameters) == set(COMPONENTS)
    found = relaxation.weights(parameters, "weight")["normal"]
    torch.testing.assert_close(found[:, :8], parameters["normal"].softmax(-1), **EXACT)
    assert torch.equal(found[:, 8], torch.ones(14, dtype=torch.float64))


def test_alphas_of_weights_are_those_weights():
    weights = torch.rand(14, 8, dtype=torch.float64) / 8
    torch.testing.assert_close(as_alphas(weights).softmax(-1)[:, 1:], weights[:, 1:], **EXACT)


@pytest.mark.parametrize("distance", ["l2", "kl"])
def test_the_concentrations_of_drnas(distance):
    relaxation = Dirichlet(distance, 0.01)
    alphas = drawn(relaxation)
    beta = {
        name: [[alpha + 1 if alpha > 0 else math.exp(alpha) for alpha in row] for row in values.tolist()]
        for name, values in alphas.items()
    }
    means = torch.tensor([[b / sum(row) for b in row] for row in beta["reduce"]], dtype=torch.float64)
    torch.testing.assert_close(relaxation.weights(alphas, None)["reduce"], means, **EXACT)
    torch.testing.assert_close(relaxation.recorded(alphas)["reduce"].softmax(-1), means, **EXACT)
    rows = [row for values in beta.values() for row in values]
    if distance == "l2":
        wanted = sum((b - 1) ** 2 for row in rows for b in row)
    else:
        torch_s = torch.distributions
        wanted = sum(
            float(
                torch_s.kl_divergence(
                    torch_s.Dirichlet(torch.tensor(row).double()), torch_s.Dirichlet(torch.ones(8).double())
                )
            )
            for row in rows
        )
    assert float(relaxation.regulariser(alphas).detach()) == pytest.approx(0.01 * wanted, rel=1e-6)


def test_the_draws_of_drnas_differ_by_half_and_step_and_come_back_with_the_generator():
    relaxation, alphas = Dirichlet("l2", 0.0), drawn(Dirichlet("l2", 0.0))
    relaxation.place(alphas, 3)
    held, state = relaxation.noise, relaxation.parts()["dirichlet"].state_dict()

    def epoch():
        relaxation.start_epoch(0.0, 2)
        found = []
        for step in range(2):
            relaxation.start_step(step)
            found += [relaxation.weights(alphas, half)["normal"].detach() for half in ("architecture", "weight")]
        return found

    first = epoch()
    assert relaxation.noise is held, "a recorded step reads this tensor"
    assert len({tuple(draw.flatten().tolist()) for draw in first}) == 4
    assert all(
        torch.equal(draw.sum(-1), draw.sum(-1)) and float((draw.sum(-1) - 1).abs().max()) < 1e-12 for draw in first
    )
    assert not any(torch.equal(mine, other) for mine, other in zip(first, epoch(), strict=True))
    relaxation.parts()["dirichlet"].load_state_dict(state)
    assert all(torch.equal(mine, other) for mine, other in zip(first, epoch(), strict=True))


@pytest.mark.parametrize("order", ["first", "second"])
def test_the_gradient_of_the_alphas_is_that_of_loss_and_regulariser(make_task, order):
    """And Adam takes it for the edges' weights as well."""

    class Held(PartialChannels):
        def regulariser(self, alphas):
            return sum(values.pow(3).sum() for values in alphas.values())

    task = make_task(order=order, batch_size=8)
    gradients = []
    for relaxation in (PartialChannels(2, True, 0.0), Held(2, True, 0.0)):
        objective = SingleBranch(task.single_branch(partial=2).train(), relaxation=relaxation)
        alphas = relaxation.parameters(objective.components, torch.Generator().manual_seed(0))
        start = {name: values.clone() for name, values in alphas.items()}
        bilevel = Bilevel(objective, alphas, task.training, task.bilevel)
        halves = [next(iter(task.batches(half, ["instance"])[0].epoch(1))) for half in ("weight", "architecture")]
        bilevel.alpha_step((halves[0],), (halves[1],))
        assert all(not torch.equal(bilevel.alphas[name], values) for name, values in start.items())
        assert [len(group["params"]) for group in bilevel.alpha_optimiser.param_groups] == [4]
        gradients.append({name: values.grad for name, values in bilevel.alphas.items()})
    for name, values in start.items():
        torch.testing.assert_close(gradients[1][name] - gradients[0][name], 3 * values**2, rtol=1e-3, atol=1e-6)

"""The successors of DARTS as whole searches: one branch and two, interrupted, stopped early."""

import itertools
from dataclasses import replace

import pytest
import torch

from tailnas.batches.batches import sequential_batches
from tailnas.batches.device_images import DeviceImages
from tailnas.foundation.seeding import torch_generator
from tailnas.methods.drnas import Dirichlet
from tailnas.methods.r_darts import stopping_epoch
from tailnas.search.collapse import PRODUCTS, hessian_eigenvalue
from tailnas.search.objective import SingleBranch
from tailnas.search.run import bilevel_cost
from tailnas.space.pretrained import supernet
from tests.unit.small_search import Killed, same, search

MOVING = {"schedule": "linear", "time": "midpoint"}
ONE = {"name": "one", "head": "shared"}
OWN = {"name": "one", "head": "own"}
BBN = {"name": "bbn", "mixing": MOVING, "mix": "logits"}
HLS = {"name": "bbn_hls", "mixing": MOVING, "mix": "logits", "heads": "mixing", "backbone": {"schedule": "mixing"}}
SETTINGS = {
    "pc_darts": {"partial": 2, "warm_up": 0.5},
    "darts_minus": {},
    "fair_darts": {},
    "beta_darts": {},
    "drnas": {},
}
PLAIN: dict[str, torch.Tensor] = {}
"""Last alphas of the searches that the others are compared with, each searched once."""
HEADS = {"one": (), "bbn": ("instance_head", "class_head"), "bbn_hls": ("instance_head", "class_head")}


@pytest.mark.parametrize("method", SETTINGS)
@pytest.mark.parametrize("branches", [pytest.param(ONE, id="one", marks=pytest.mark.slow), pytest.param(HLS, id="hls")])
def test_one_branch_and_two(make_task, method, branches):
    """The genotype has the heads of its branches, and the alphas go another way than those of DARTS."""
    result = search(method, make_task(architecture_learning_rate=0.2), branches=branches, **SETTINGS[method])
    heads = HEADS[branches["name"]]
    assert tuple(result.alphas) == ("normal", "reduce", *heads)
    assert all(values.shape == (3, 14, 8) and torch.isfinite(values).all() for values in result.alphas.values())
    assert {f"lr_{head}" for head in heads} <= result.history[-1].keys()
    assert result.cost.optimiser_steps == (3 if method == "pc_darts" else 4)
    if branches is HLS:
        assert result.history[-1]["lr_class_head"] == pytest.approx(0.2 * 0.75)
    other = "bbn_hls" if heads else "darts"
    if other not in PLAIN:
        PLAIN[other] = search(other, make_task(architecture_learning_rate=0.2)).alphas["normal"][-1]
    assert not torch.allclose(result.alphas["normal"][-1], PLAIN[other])


@pytest.mark.parametrize(
    ("branches", "method"),
    [
        pytest.param(ONE, "darts", marks=pytest.mark.slow),
        (OWN, "darts"),
        pytest.param(BBN, "bbn", marks=pytest.mark.slow),
        (HLS, "bbn_hls"),
    ],
)
def test_with_nothing_added_they_are_the_searches_that_they_build_on(make_task, branches, method):
    """beta-DARTS with weight 0, in all the ways in which branches can be chosen."""
    plain = search(method, make_task(epochs=1), **({"head": branches["head"]} if method == "darts" else {}))
    found = search("beta_darts", make_task(epochs=1), branches=branches, weight=0.0)
    rows = [{key: row[key] for key in row if key != "beta_decay"} for row in found.history]
    assert same(replace(found, history=rows), plain)


@pytest.mark.parametrize(("method", "branches"), [("drnas", HLS), ("pc_darts", ONE)])
def test_an_interrupted_search_ends_as_if_nothing_had_happened(make_task, tmp_path, method, branches):
    chosen = {"branches": branches, **SETTINGS[method]}
    whole = search(method, make_task(), **chosen)
    for process, epochs in enumerate((0, 1)):
        torch.manual_seed(process)
        with pytest.raises(Killed):
            search(method, make_task(folder=tmp_path / "interrupted", epochs_to_live=epochs), **chosen)
    assert same(search(method, make_task(folder=tmp_path / "interrupted", epochs_to_live=1), **chosen), whole)


def test_a_search_that_had_ended_before_it_was_written_sweeps_as_before(make_task, tmp_path, monkeypatch):
    """The auxiliary skip has the strength of the last of two epochs, though no epoch is begun."""
    strengths = []

    def sweep(task, objective, alphas):
        strengths.append(float(objective.relaxation.strength))
        return []

    monkeypatch.setattr("tailnas.search.run.mixing_ratio_sweep", sweep)
    for alive in (None, 0):
        task = make_task(folder=tmp_path / "ended", epochs_to_live=alive)
        search("darts_minus", task, branches=BBN, beta=5.0)
    assert strengths == [2.5, 2.5]


def test_r_darts_pays_for_its_eigenvalues(make_task):
    """Forward and back for each batch's gradient, and once more for each product, two branches with a batch each."""
    task = make_task()
    for branches, count in ((ONE, 1), (BBN, 2)):
        found = search("r_darts", task, branches=branches)
        products = [int(row["hessian_products"]) for row in found.history]
        assert len(products) == 2 and all(1 <= number <= PRODUCTS for number in products)
        whole, batch = bilevel_cost(task, count), task.batches("architecture", ["instance"])[0].batch_size
        more = count * batch * (len(products) + sum(products))
        assert found.cost.trained_images == whole.trained_images + more
        per_image = whole.total_multiply_adds // whole.trained_images
        assert found.cost.total_multiply_adds == per_image * found.cost.trained_images


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 15, 16, 17, 25, 64, 65])
def test_no_image_is_left_alone_where_batches_normalise(make_task, count):
    task = make_task()
    data, order = task.architecture_half, torch.arange(count) % len(task.architecture_half)
    some = DeviceImages(data.images.index_select(0, order), data.labels[order])
    batches = [*sequential_batches(some, 8, task.normalisation, pairs=True)]
    assert torch.cat([labels for _, labels in batches]).equal(some.labels)
    assert min(len(labels) for _, labels in batches) >= min(2, count)
    plain = [len(labels) for _, labels in sequential_batches(some, 8, task.normalisation)]
    if plain[-1] != 1:
        assert [len(labels) for _, labels in batches] == plain


def test_a_grey_image_alone_passes_in_training_mode(make_task):
    """Its one row of pixels has strides of its own."""
    network = make_task().single_branch().train()
    with torch.no_grad():
        assert torch.isfinite(network(torch.randn(1, 1, 16, 16))).all()


def test_alphas_rest_at_the_beginning_of_pc_darts(make_task):
    """Then they start as if the search had begun there: Adam has seen nothing. Their loss is measured meanwhile."""
    result = search("pc_darts", make_task(epochs=3), partial=2, warm_up=0.67)
    moved = [bool((later != before).any()) for before, later in itertools.pairwise(result.alphas["normal"])]
    assert moved == [False, False, True]
    assert all(row["architecture_loss"] > 0 for row in result.history)
    task = make_task(epochs=3)
    whole = bilevel_cost(task, 1)
    assert (result.cost.trained_images, result.cost.scored_images) == (whole.trained_images * 4 // 6, 2 * 21)


def test_pc_darts_starts_from_random_weights(make_task):
    """A pretrained super-network's cells have other shapes."""
    source = supernet(make_task().space, 7, 1).state_dict()
    scratch = search("pc_darts", make_task(epochs=1), partial=2)
    found = search("pc_darts", make_task(epochs=1, initialisation="pretrained"), partial=2)
    assert same(found, scratch)
    assert scratch.network.state_dict().keys() == source.keys()


def test_a_hessian_of_draws_is_that_of_expected_weights(make_task, monkeypatch):
    """Other draws, the same eigenvalue."""
    monkeypatch.setattr("tailnas.search.collapse.PRODUCTS", 2)
    task, relaxation = make_task(), Dirichlet("l2", 0.001)
    objective = SingleBranch(task.single_branch(), relaxation=relaxation)
    alphas = relaxation.parameters(objective.components, torch_generator(0, "alphas"))
    relaxation.place(alphas, 0)
    batches = tuple(next(source.epoch(1)) for source in task.batches("architecture", ["instance"]))
    found = []
    for _ in range(2):
        relaxation.start_epoch(0.0, 1)
        relaxation.start_step(0)
        found.append(hessian_eigenvalue(objective, alphas, batches)[0])
    assert found[0] == found[1] != 0


@pytest.mark.parametrize("method", ["darts", "random"])
def test_a_head_of_its_own(make_task, method):
    """Instance head in the genotype; the other components are drawn, or start, as those that share."""
    own, shared = (search(method, make_task(epochs=1), head=head) for head in ("own", "shared"))
    assert shared.genotype is None or shared.genotype.instance_head is None
    if method == "darts":
        assert tuple(own.alphas) == ("normal", "reduce", "instance_head")
        assert torch.equal(own.alphas["reduce"][0], shared.alphas["reduce"][0])
        assert own.cost == shared.cost and "instance_head" in str(own.history[-1]["genotype"])
        assert own.history[-1]["lr_instance_head"] == own.history[-1]["lr_backbone"]
    else:
        assert own.genotype.instance_head is not None and own.genotype.normal == shared.genotype.normal


def test_the_batches_of_the_alphas_are_augmented_where_it_is_asked_for(make_task):
    """The weight half always; what is measured on the architecture half never."""
    task = make_task(epochs=1, crop_padding=4, flip=True)
    plain = replace(task, augment_architecture_half=False)
    rows = {}
    for name, one in {"augmented": task, "plain": plain}.items():
        rows[name] = [next(one.batches(half, ["instance"])[0].epoch(1)) for half in ("weight", "architecture")]
    for half, same_pixels in enumerate((True, False)):
        (mine, labels), (other, others) = rows["augmented"][half], rows["plain"][half]
        assert torch.equal(labels, others) and torch.equal(mine, other) == same_pixels
    kept = torch.cat([pixels for pixels, _ in sequential_batches(task.architecture_half, 64, task.normalisation)])
    pixels = {tuple(image.flatten().tolist()) for image in kept}
    assert {tuple(image.flatten().tolist()) for image in rows["plain"][1][0]} <= pixels
    assert not pixels & {tuple(image.flatten().tolist()) for image in rows["augmented"][1][0]}
    other = replace(make_task(epochs=1, crop_padding=4, flip=True), augment_architecture_half=False)
    assert not torch.equal(search("darts", task).alphas["normal"], search("darts", other).alphas["normal"])


@pytest.mark.parametrize(
    ("eigenvalues", "kept"),
    [
        ([0.2] * 12, None),
        ([0.2] * 5 + [0.4] * 5, 5),  # 0.2 / 0.4 after epoch 10
        ([0.2] * 7 + [0.3] * 5, 6),  # 0.2 / 0.26 = 0.77 after epoch 10, 0.2 / 0.28 = 0.71 after 11
        ([0.01] + [0.2] * 11, None),  # 0.162 / 0.2 = 0.81 after epoch 10
        ([0.01, 0.2, 0.2, 0.2, 0.2, 0.2], None),  # one flat epoch at the beginning is no window
        ([0.2, 0.4, 0.4], None),
    ],
)
def test_the_stopping_rule_of_r_darts(eigenvalues, kept):
    """mean over 5 epochs, compared with that of 5 epochs before; the latter's epoch is kept, from the fifth on."""
    whole = {epoch: sum(eigenvalues[epoch - 5 : epoch]) / 5 for epoch in range(5, len(eigenvalues) + 1)}
    below = [epoch - 5 for epoch in range(10, len(eigenvalues) + 1) if whole[epoch - 5] / whole[epoch] < 0.75]
    assert stopping_epoch(eigenvalues, 5, 0.75) == (below[0] if below else None) == kept


def test_r_darts_goes_back_and_pays_for_what_it_ran(make_task, tmp_path, monkeypatch):
    """Under eigenvalues that rise in the second of three epochs; at the end of a finished search it does not go on."""
    monkeypatch.setattr("tailnas.search.run.hessian_eigenvalue", lambda *of: (eigenvalues.pop(0), 3))
    settings = {"window": 1, "ratio": 0.75, "branches": ONE}
    eigenvalues = [0.2, 0.4, 0.1]
    result = search("r_darts", make_task(epochs=3, folder=tmp_path / "r"), **settings)
    assert eigenvalues == [0.1] and len(result.history) == 1
    table = result.tables["eigenvalues"]
    assert [(row["epoch"], row["hessian_eigenvalue"], row["kept"]) for row in table] == [(1, 0.2, 1), (2, 0.4, 0)]
    assert result.cost.optimiser_steps == 2 * 2
    darts = search("darts", make_task(epochs=3))
    assert all(torch.equal(values, darts.alphas[name][:2]) for name, values in result.alphas.items())
    again = make_task(epochs=3, folder=tmp_path / "r", epochs_to_live=0)
    assert same(search("r_darts", again, **settings), result)


@pytest.mark.slow
@pytest.mark.parametrize("branches", [OWN, HLS], ids=["own head", "hls"])
def test_darts_pt_searches_as_darts_and_chooses_by_itself(make_task, tmp_path, branches):
    """Killed in the middle of the decisions, each followed by an epoch of tuning, it ends the same."""
    settings = {"branches": branches, "tuning_epochs": 1}
    whole = search("darts_pt", make_task(epochs=1), **settings)
    assert [row["round"] for row in whole.tables["selection"]] == list(range(1, 18))
    assert set(whole.genotype.components()) == set(whole.alphas)
    with pytest.raises(Killed):
        search("darts_pt", make_task(epochs=1, folder=tmp_path / "pt", epochs_to_live=6), **settings)
    assert same(search("darts_pt", make_task(epochs=1, folder=tmp_path / "pt"), **settings), whole)

"""Methods that choose a genotype: by scores, at random, or always the same."""

from dataclasses import replace

import pytest
import torch

from tailnas.batches.device_images import DeviceImages
from tailnas.foundation.errors import UserError
from tailnas.genotype.found import found_genotype, write_genotype
from tailnas.genotype.genotype import DARTS_V2, Genotype
from tailnas.methods import imb_nas, random_best, zero_cost
from tailnas.search.run import bilevel_cost
from tailnas.search.task import Source
from tailnas.space.pretrained import supernet
from tests.unit.small_search import Killed, same, search, settings_of

ADAPTATIONS = {
    "none": {"name": "none"},
    "head": {"name": "head", "paths": 2, "beta": 0.9},
    "finetune": {"name": "finetune", "beta": 0.9},
    "scratch": {"name": "scratch", "beta": 0.9},
}
SOURCE_CLASSES = 4


def ranking(adaptation, candidates=None):
    """Changes to the settings of imb_nas: three candidates, statistics on two batches."""
    candidates = candidates or {"name": "random", "count": 3}
    return {"adaptation": ADAPTATIONS[adaptation], "candidates": candidates, "statistics_batches": 2}


@pytest.fixture
def ranking_task(make_task):
    """A task of imb_nas with a super-network of four source classes and 14 held-out images; batches of 8."""

    def make(adaptation, **settings):
        task = make_task(**{"batch_size": 8, **settings})
        with torch.random.fork_rng():
            torch.manual_seed(1)
            state = supernet(task.space, SOURCE_CLASSES, 1).state_dict()
        half = task.weight_half
        source = Source(task.architecture_half, DeviceImages(half.images[:14], half.labels[:14]))
        return replace(task, pretrained=None if adaptation == "scratch" else state, source=lambda: source)

    return make


@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_imb_nas_takes_the_candidate_that_scores_best_and_counts_every_pass(ranking_task, adaptation):
    """Two batches of 8 for statistics, 2 paths for the head, 2 epochs of 2 steps of 8 of the 21 images of a half."""
    result = search("imb_nas", ranking_task(adaptation), **ranking(adaptation))
    table = result.tables["candidates"]
    scores = [row["balanced_accuracy"] for row in table]
    assert len(table) == 3 and len({row["genotype"] for row in table}) == 3
    assert result.genotype == Genotype.from_json(table[scores.index(max(scores))]["genotype"])
    row = {"epoch": 0, "balanced_accuracy": max(scores), "genotype": result.genotype.to_line()}
    assert result.history == [row] and result.alphas is None and result.network is None
    trained = [] if adaptation == "none" else [1, 2]
    assert [row["epoch"] for row in result.tables.get("adaptation", [])] == trained

    cost = result.cost
    scored = 3 * ((14 if adaptation == "none" else 21) + 16)
    assert cost.scored_images == scored + (2 * (21 + 16) if adaptation == "head" else 0)
    assert cost.trained_images == (32 if adaptation in ("finetune", "scratch") else 0)
    assert cost.optimiser_steps == (0 if adaptation == "none" else 4)
    single = sum(weight.numel() for weight in ranking_task("scratch").single_branch().parameters())
    assert cost.weights_trained == {"none": 0, "head": 32 * 3 + 3}.get(adaptation, single)
    assert cost.details == {"candidates": 3} and cost.total_multiply_adds > 0


def test_the_head_alone_is_trained_where_the_backbone_is_frozen(ranking_task):
    moved = {}
    for adaptation in ("head", "finetune"):
        task, settings = ranking_task(adaptation), settings_of("imb_nas", **ranking(adaptation))
        scorer, _, _ = imb_nas.target_scorer(task, settings, settings.adaptation)
        adapted, start = scorer.network.state_dict(), task.single_branch().state_dict()
        moved[adaptation] = {name for name in start if not torch.equal(adapted[name], start[name])}
    assert moved["head"] == {"classifier.weight", "classifier.bias"}
    assert {"classifier.weight", "stem.0.weight"} <= moved["finetune"]


def test_without_adaptation_the_target_does_not_matter(ranking_task):
    task, other = ranking_task("none"), ranking_task("none")
    part = DeviceImages(task.weight_half.images[:9], task.weight_half.labels[:9])
    other = replace(other, weight_half=part, architecture_half=other.weight_half)
    assert search("imb_nas", task, **ranking("none")).tables == search("imb_nas", other, **ranking("none")).tables


@pytest.mark.parametrize("adaptation", ["none", "head", "finetune"])
def test_a_missing_super_network_is_named(ranking_task, adaptation):
    with pytest.raises(UserError, match=r"^search\.imb_nas\.adaptation\.name: .*; allowed: 'scratch'$"):
        search("imb_nas", replace(ranking_task(adaptation), pretrained=None), **ranking(adaptation))


@pytest.mark.parametrize(
    "name, adaptation",
    [
        ("imb_nas", "head"),
        pytest.param("imb_nas", "finetune", marks=pytest.mark.slow),
        ("random_best", "none"),
        ("zero_cost", "none"),
    ],
)
def test_an_interruption_leaves_no_trace(ranking_task, tmp_path, name, adaptation):
    """Killed after each epoch and candidate in turn, each time in a process of its own."""
    evolution = {"name": "evolution", "count": 3, "population": 2, "tournament": 1}
    settings = {
        "imb_nas": ranking(adaptation, evolution),
        "random_best": {"epochs": 7},
        "zero_cost": {"candidates": evolution},
    }[name]
    whole = search(name, ranking_task(adaptation, flip=True), **settings)
    processes = sum(map(len, whole.tables.values()))
    assert processes > 2
    for process in range(processes):
        torch.manual_seed(process)
        task = ranking_task(adaptation, flip=True, folder=tmp_path / "interrupted", epochs_to_live=1)
        if process < processes - 1:
            with pytest.raises(Killed):
                search(name, task, **settings)
    assert same(search(name, task, **settings), whole)


def test_random_best_spends_its_budget_and_no_more(make_task):
    """Each candidate passes 6 epochs of 2 steps of 8 images, and 21 once it is trained."""
    task, images = make_task(batch_size=8), 6 * 2 * 8 + 21
    result = search("random_best", task, epochs=6)
    budget = bilevel_cost(task, 1).total_multiply_adds
    cost, table = result.cost.to_dict(), result.tables["candidates"]
    assert cost["budget_multiply_adds"] == budget and cost["total_multiply_adds"] <= budget
    each = [task.path_costs(Genotype.from_json(row["genotype"])) * images for row in table]
    assert sum(each) == cost["total_multiply_adds"] and len(table) == cost["candidates"] > 1
    settings = settings_of("random_best", epochs=6)
    assert len(random_best.affordable(task, settings, budget + max(each) * 2)) > len(table)
    assert random_best.affordable(task, settings, 0) == each[:1], "one candidate at least"
    assert cost["images"] == len(table) * images
    best = max(table, key=lambda row: row["balanced_accuracy"])
    assert result.genotype == Genotype.from_json(best["genotype"])
    assert result.history[0]["balanced_accuracy"] == best["balanced_accuracy"]


def test_a_budget_of_two_branches_is_twice_as_large(make_task):
    darts, bbn = (search("random_best", make_task(epochs=1), budget=name, epochs=10).cost for name in ("darts", "bbn"))
    assert bbn.details["budget_multiply_adds"] == 2 * darts.details["budget_multiply_adds"]


def test_candidates_follow_seed_method_factor_and_data(make_task, ranking_task):
    """The same for the same run; a stream of their own for each method, imbalance factor and data set."""
    run = ("random", "30", "digits")
    others = [("imb_nas", "30", "digits"), ("random", "10", "digits"), ("random", "30", "glyphs")]
    tasks = [replace(make_task(), run=own) for own in (run, run, *others)] + [replace(make_task(seed=1), run=run)]
    drawn = [search("random", task).genotype for task in tasks]
    assert drawn[0] == drawn[1] and len(set(drawn)) == 5
    ranking_tasks = [replace(ranking_task("scratch"), run=own) for own in others]
    tables = [search("imb_nas", task, **ranking("scratch")).tables for task in ranking_tasks]
    ranked = [{row["genotype"] for row in table["candidates"]} for table in tables]
    assert len(set.union(*ranked)) == sum(map(len, ranked))


def test_given_genotypes_are_taken_as_they_stand_one_for_each_seed(make_task):
    """Edges keep their order, on which initial weights depend: a table's run comes back bit by bit."""
    lines = [DARTS_V2.to_line(), Genotype(network="resnet32").to_line()]
    assert DARTS_V2.in_order() != DARTS_V2
    found = [search("given", make_task(seed=seed), genotypes=lines) for seed in (0, 1, 2)]
    assert [result.genotype for result in found] == [DARTS_V2, Genotype(network="resnet32"), DARTS_V2]
    assert found[0].history == [{"epoch": 0, "genotype": lines[0]}] and not any(found[0].cost.to_dict().values())


@pytest.mark.parametrize(
    ("name", "chosen"), [("random", None), ("darts_v2", DARTS_V2), ("resnet32", Genotype(network="resnet32"))]
)
def test_a_choice_without_search_costs_nothing_and_is_derived_as_it_is(make_task, tmp_path, name, chosen):
    result = search(name, make_task())
    assert chosen is None or result.genotype == chosen.in_order()
    assert result.history == [{"epoch": 0, "genotype": result.genotype.to_line()}]
    assert not any(result.cost.to_dict().values()) and result.tables == {}
    assert result.network is None and result.alphas is None
    write_genotype(tmp_path, result.genotype)
    assert found_genotype(tmp_path, "last") == result.genotype


PROXY = {"candidates": {"name": "random", "count": 3}, "batch_size": 9}


@pytest.mark.parametrize("proxy", ["synflow", "snip", "grad_norm", "nwot", "jacov", "offset", "parameters"])
def test_zero_cost_takes_the_candidate_of_the_largest_proxy_and_counts_its_passes(make_task, proxy):
    task = make_task()
    result = search("zero_cost", task, **PROXY, proxy=proxy)
    table = result.tables["candidates"]
    scores = [row[proxy] for row in table]
    assert result.genotype == Genotype.from_json(table[scores.index(max(scores))]["genotype"])
    assert result.history == [{"epoch": 0, proxy: max(scores), "genotype": result.genotype.to_line()}]
    assert len(set(scores)) == 3 and same(result, search("zero_cost", make_task(), **PROXY, proxy=proxy))

    cost, each = result.cost, {"synflow": 1, "parameters": 0}.get(proxy, 9)
    forward = proxy in ("nwot", "offset", "parameters")
    assert (cost.scored_images, cost.trained_images) == ((3 * each, 0) if forward else (0, 3 * each))
    passes = sum(task.path_costs(Genotype.from_json(row["genotype"])) for row in table)
    assert cost.total_multiply_adds == each * passes and cost.weights_trained == cost.optimiser_steps == 0


@pytest.mark.parametrize("sampler", ["instance", "class_balanced"])
def test_batches_of_proxies_hold_an_image_once_and_follow_the_sampler(make_task, sampler):
    """9 of 12, 6 and 3 images; of a batch that is larger than the half all images, whatever the sampler."""
    sizes = []
    for seed in range(40):
        settings = settings_of("zero_cost", **PROXY, sampler=sampler)
        images, labels = zero_cost.proxy_batch(make_task(seed=seed), settings)
        assert len(images.unique(dim=0)) == len(labels) == 9
        sizes.append(torch.bincount(labels, minlength=3))
    mean = torch.stack(sizes).double().mean(0)
    if sampler == "instance":
        assert mean.tolist() == pytest.approx([9 * 12 / 21, 9 * 6 / 21, 9 * 3 / 21], abs=0.5)
    else:
        assert float(mean[0]) < 4.5 and float(mean[2]) > 1.8
    whole, labels = zero_cost.proxy_batch(make_task(), settings_of("zero_cost", batch_size=64, sampler=sampler))
    assert len(whole.unique(dim=0)) == 21 and torch.bincount(labels).tolist() == [12, 6, 3]

"""Methods that choose a genotype by scores, and the fixed ones."""

import json
from dataclasses import replace
from itertools import count

import pytest
import torch

from tailnas.errors import UserError
from tailnas.imbalance.losses import class_balanced_weights
from tailnas.search.methods import darts_reweight, imb_nas, random_best
from tailnas.search.run import bilevel_cost
from tailnas.search.task import Source
from tailnas.space.genotype import DARTS_V2, Genotype, derive_genotype
from tailnas.training.checkpoint import Checkpoint
from tailnas.training.pretraining import supernet

ADAPTATIONS = ("none", "head", "finetune", "scratch")
SOURCE_CLASSES = 4


class Killed(Exception):
    pass


@pytest.fixture
def ranking_task(make_task):
    """A task of imb_nas with a super-network of four source classes and statistics on two batches."""

    def make(adaptation, **settings):
        small = {"candidates": 3, "head_paths": 2, "statistics_batches": 2, "batch_size": 8, **settings}
        task = make_task(adaptation=adaptation, **small)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            state = supernet(task.space, SOURCE_CLASSES, 1).state_dict()
        source = Source(task.architecture, task.weights.subset(torch.arange(14)))
        pretrained = None if adaptation == "scratch" else state
        return replace(task, pretrained=pretrained, source=lambda: source)

    return make


def genotype_of(result) -> Genotype:
    return derive_genotype({name: values[-1] for name, values in result.alphas.items()})


def by_node(genotype: Genotype):
    return [
        frozenset(getattr(genotype, name)[position : position + 2])
        for name in ("normal", "reduce")
        for position in (0, 2, 4, 6)
    ]


@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_imb_nas_takes_the_candidate_that_scores_best(ranking_task, search, adaptation):
    result = search("imb_nas", ranking_task(adaptation))
    table = result.tables["candidates"]
    scores = [row["balanced_accuracy"] for row in table]
    assert len(table) == 3 and len({row["genotype"] for row in table}) == 3
    best = Genotype.from_json(table[scores.index(max(scores))]["genotype"])
    assert by_node(genotype_of(result)) == by_node(best)
    assert result.history == [{"epoch": 0, "balanced_accuracy": max(scores), "genotype": result.history[0]["genotype"]}]
    assert [len(values) for values in result.alphas.values()] == [1, 1]
    trained = [] if adaptation == "none" else [1, 2]
    assert [row["epoch"] for row in result.tables.get("adaptation", [])] == trained


@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_cost_counts_every_pass(ranking_task, search, adaptation):
    """42 = 2 * 21 images; 2 batches of 8 for statistics, 2 paths for the head, 2 epochs of 2 steps of 8 images."""
    cost = search("imb_nas", ranking_task(adaptation)).cost
    scored = 3 * ((14 if adaptation == "none" else 21) + 16)
    head = 2 * (21 + 16) if adaptation == "head" else 0
    assert cost.scored_images == scored + head
    assert cost.trained_images == (32 if adaptation in ("finetune", "scratch") else 0)
    assert cost.optimiser_steps == (0 if adaptation == "none" else 4)
    assert cost.weights_trained == {"none": 0, "head": 32 * 3 + 3}.get(adaptation, cost.weights_trained)
    assert cost.total_multiply_adds > 0


def test_the_head_alone_is_trained_where_the_backbone_is_frozen(ranking_task):
    for adaptation in ("head", "finetune"):
        task = ranking_task(adaptation)
        scorer, _, _ = imb_nas.target_scorer(task)
        adapted, start = scorer.network.state_dict(), task.single_branch().state_dict()
        moved = {name for name in start if not torch.equal(adapted[name], start[name])}
        if adaptation == "head":
            assert moved == {"classifier.weight", "classifier.bias"}
        else:
            assert {"classifier.weight", "stem.0.weight"} <= moved


def test_without_adaptation_the_target_does_not_matter(ranking_task, search, tmp_path):
    task = ranking_task("none", folder=tmp_path / "a")
    other = ranking_task("none", folder=tmp_path / "b")
    other = replace(other, weights=other.weights.subset(torch.arange(9)), architecture=other.weights)
    assert search("imb_nas", task).tables == search("imb_nas", other).tables


def test_a_missing_super_network_is_named(ranking_task, search):
    for adaptation in ("none", "head", "finetune"):
        with pytest.raises(UserError, match=r"^search.adaptation: .*; allowed: 'scratch'$"):
            search("imb_nas", replace(ranking_task(adaptation), pretrained=None))


@pytest.mark.parametrize("name, adaptation", [("imb_nas", "head"), ("imb_nas", "finetune"), ("random_best", "none")])
def test_an_interruption_leaves_no_trace(ranking_task, search, tmp_path, monkeypatch, name, adaptation):
    """Killed after each single checkpoint in turn, each time in a process of its own."""
    settings = {"candidate_source": "evolution", "population": 2, "tournament": 1, "candidate_epochs": 7, "flip": True}
    whole = search(name, ranking_task(adaptation, folder=tmp_path / "whole", **settings))
    save, folder = Checkpoint.save, tmp_path / "interrupted"

    def save_and_die(self, history):
        save(self, history)
        raise Killed

    for attempt in count():
        torch.manual_seed(attempt)
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoint, "save", save_and_die)
            try:
                resumed = search(name, ranking_task(adaptation, folder=folder, **settings))
                break
            except Killed:
                pass
    assert attempt == sum(map(len, whole.tables.values()))
    assert resumed.history == whole.history and resumed.tables == whole.tables and resumed.cost == whole.cost
    assert all(torch.equal(values, whole.alphas[key]) for key, values in resumed.alphas.items())


def test_random_best_spends_its_budget_and_no_more(make_task, search):
    task = make_task(candidate_epochs=6, batch_size=8)
    result = search("random_best", task)
    budget = bilevel_cost(task, 1).total_multiply_adds
    cost, table = result.cost.to_dict(), result.tables["candidates"]
    assert cost["budget_multiply_adds"] == budget and cost["total_multiply_adds"] <= budget
    each = [
        task.path_costs(Genotype.from_json(row["genotype"])) * (6 * 2 * 8 + 21)  # 6 epochs of 2 steps of 8, scored once
        for row in table
    ]
    assert sum(each) == cost["total_multiply_adds"] and len(table) == cost["candidates"] > 1
    assert len(random_best.affordable(task, budget + max(each) * 2)) > len(table)
    assert random_best.affordable(task, 0) == each[:1]
    assert cost["images"] == len(table) * (6 * 2 * 8 + 21)
    best = max(table, key=lambda row: row["balanced_accuracy"])
    assert by_node(genotype_of(result)) == by_node(Genotype.from_json(best["genotype"]))
    assert result.history[0]["balanced_accuracy"] == best["balanced_accuracy"]


def test_a_two_branch_budget_is_twice_as_large(make_task):
    assert bilevel_cost(make_task(), 2).total_multiply_adds == 2 * bilevel_cost(make_task(), 1).total_multiply_adds
    second = bilevel_cost(make_task(order="second"), 1)
    assert second.trained_images == bilevel_cost(make_task(), 1).trained_images * 5 // 2


def test_the_published_cell_goes_through_the_alphas(make_task, search):
    result = search("darts_v2", make_task())
    assert by_node(genotype_of(result)) == by_node(DARTS_V2)
    assert result.cost.to_dict()["images"] == 0
    assert by_node(Genotype.from_json(json.dumps(json.loads(result.history[0]["genotype"])))) == by_node(DARTS_V2)


def test_each_half_is_weighted_by_its_own_classes(make_task, monkeypatch):
    task = make_task(beta=0.9)
    halves = {"weights": task.weights.subset(torch.arange(20)), "architecture": task.architecture}
    seen = {}

    def watch(task, objective, samplers):
        seen.update(objective.class_weights, samplers=samplers)

    monkeypatch.setattr(darts_reweight, "bilevel_search", watch)
    darts_reweight.search(replace(task, **halves))
    assert seen["samplers"] == ["instance"]
    assert torch.equal(seen["weights"], class_balanced_weights([12, 6, 2], 0.9))
    assert torch.equal(seen["architecture"], class_balanced_weights([12, 6, 3], 0.9))


@pytest.mark.parametrize("half", ["weights", "architecture"])
def test_a_loss_takes_the_weights_of_its_half(make_task, half):
    """Weights that single out one class leave that class's mean cross-entropy."""
    from tailnas.search.objective import SingleBranch

    task = make_task()
    single = {"weights": torch.tensor([1.0, 0.0, 0.0]), "architecture": torch.tensor([0.0, 0.0, 1.0])}
    objective = SingleBranch(task.single_branch().eval(), class_weights=single)
    batch = next(iter(task.batches("architecture", ["class_balanced"])[0].epoch(1)))
    wanted = 0 if half == "weights" else 2
    alphas = {name: torch.zeros(14, 8) for name in objective.components}
    logits = objective.logits(batch[0], alphas)
    rows = batch[1] == wanted
    expected = torch.nn.functional.cross_entropy(logits[rows], batch[1][rows])
    torch.testing.assert_close(objective.loss((batch,), alphas, half)["loss"], expected)


@pytest.mark.parametrize("name", ["darts_resample", "darts_reweight"])
def test_rebalanced_searches_differ_from_the_plain_one(make_task, search, tmp_path, name):
    plain = search("darts", make_task(epochs=1, folder=tmp_path / "a"))
    other = search(name, make_task(epochs=1, folder=tmp_path / "b"))
    assert list(other.history[0]) == list(plain.history[0])
    assert not torch.equal(other.alphas["normal"], plain.alphas["normal"])

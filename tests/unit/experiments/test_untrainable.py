"""The experiment on networks that hardly train: what it measures, what its recipes change, and that it goes on."""

import csv

import pytest
import torch
from torch import nn

from benchmarks import untrainable
from tailnas.foundation.errors import UserError
from tailnas.foundation.seeding import torch_generator
from tailnas.genotype.genotype import Genotype
from tailnas.space.network import Network
from tailnas.space.operations import PoolNorm
from tailnas.space.random_genotype import random_genotype
from tailnas.space.supernet import seeded_initialisation
from tailnas.validate.presets import load_preset
from tests.unit.small_search import images

POOLS = tuple(("max_pool_3x3", source) for _ in range(4) for source in (0, 1))
CHAIN = (*POOLS[:2], *(("max_pool_3x3", source) for node in (2, 3, 4) for source in (0, node)))
"""Each node adds a pooling of the node before."""


def network(genotype, pools_normalised=False):
    with seeded_initialisation(0):
        return Network(genotype, 4, 4, 3, in_channels=1, pool_norm=pools_normalised)


def test_a_chain_of_max_pools_moves_the_features_off_centre_and_normalised_pools_do_not():
    data = images("weights")
    batch = data.images.float() / 64 - 1
    chain = Genotype(CHAIN, POOLS)
    raw, normalised = (untrainable.signal(network(chain, how), batch, data.labels) for how in (False, True))
    features = network(chain).train().features(batch).detach().double().numpy()
    mean = features.mean(0)
    assert raw["offset"] == pytest.approx((mean**2).sum(), rel=1e-4)
    assert raw["spread"] == pytest.approx(((features - mean) ** 2).sum(1).mean(), rel=1e-4)
    assert raw["offset"] > 3 * raw["spread"] and normalised["offset"] < 1e-6 < normalised["spread"]
    assert raw["gradient_norm"] > raw["classifier_gradient_norm"] > 3 * normalised["classifier_gradient_norm"]


def test_normalised_pools_change_pools_alone():
    genotype = random_genotype(torch_generator(2, "test"))
    plain, other = network(genotype), network(genotype, pools_normalised=True)
    pools = [kind for kind, _ in (*genotype.normal, *genotype.reduce) if "pool" in kind]
    assert pools and any(isinstance(module, PoolNorm) for module in other.modules())
    assert not any(isinstance(module, PoolNorm) for module in network(genotype).modules())
    theirs = dict(other.named_parameters())
    assert theirs.keys() == dict(plain.named_parameters()).keys()
    assert all(torch.equal(weight, theirs[name]) for name, weight in plain.named_parameters())
    assert any(isinstance(module, nn.MaxPool2d | nn.AvgPool2d) for module in plain.modules())


def test_recipes_change_one_thing(preset):
    settings = load_preset(preset()).retrain
    training = settings.training
    for recipe, different in {
        "the study's": {},
        "10 x epochs": {"epochs": 10 * training.epochs},
        "rate / 4": {"learning_rate": training.learning_rate / 4},
        "pools normalised": {},
    }.items():
        by = untrainable.changed(settings, recipe)
        assert by.training == training.model_copy(update=different) and type(by.training.epochs) is int
        assert by.network.pool_norm is (recipe == "pools normalised")
        shape = by.network.model_copy(update={"pool_norm": False})
        assert by.model_copy(update={"training": training, "network": shape}) == settings


@pytest.mark.parametrize("run", ["beta_darts-30-4", "beta_darts-30-4-0", "darts-2.5-4"])
def test_a_run_names_its_factor_and_seed(run):
    method, factor, _ = run.split("-", 2)
    assert untrainable.parts(run) == (method, factor, 4)


@pytest.mark.parametrize("run", ["darts-30", "darts-30-4-1", "darts-30-x", "darts-natural-1", "30-4"])
def test_another_retraining_or_no_run_is_refused(run):
    with pytest.raises(UserError, match="allowed: <method>-<imbalance factor>-<seed>"):
        untrainable.parts(run)


def test_it_goes_on_where_it_was_interrupted(preset, tmp_path, capsys):
    folder, changes = tmp_path / "out", {"retrain": {"training": {"epochs": 1}}}
    genotypes = {
        f"random-{factor}-1": random_genotype(torch_generator(factor, "test")).to_line() for factor in (10, 30, 3)
    }
    table = tmp_path / "genotypes.csv"
    with table.open("w") as stream:
        csv.writer(stream).writerows([["run", "genotype"], *genotypes.items()])
    command = [str(preset(**changes)), "--output", str(folder), "--genotypes", str(table)]
    command += ["--recipes", "the study's", "pools normalised", "--runs", "random-10-1", "random-30-1"]
    untrainable.main(command)
    file = folder / "retrainings.csv"
    whole = file.read_text()
    rows = list(csv.DictReader(file.open()))
    assert [row["run"] for row in rows] == ["random-10-1"] * 2 + ["random-30-1"] * 2
    assert [row["genotype"] for row in rows] == [genotypes[row["run"]] for row in rows]
    file.write_text("\n".join(whole.splitlines()[:-1]) + "\n")
    capsys.readouterr()
    untrainable.main(command)
    assert file.read_text() == whole and capsys.readouterr().out.count("\n") == 1
    with pytest.raises(SystemExit, match=r"^--runs: 'darts-10-0'; allowed: random-10-1, random-30-1, random-3-1$"):
        untrainable.main([*command, "darts-10-0"])
    table.write_text("run\nx\n")
    with pytest.raises(SystemExit, match=r"genotypes\.csv: .*; allowed: a table with the columns run, genotype$"):
        untrainable.main(command)

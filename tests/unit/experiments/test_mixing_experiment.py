"""The experiment on the mixing ratio: what its variants change, and that it goes on where it was interrupted."""

import pandas as pd
import pytest

from benchmarks import mixing
from tests.unit.small_search import same, search, settings_of

FEW = ("constant 1", "parabolic", "loss weighting alone")


def test_weighting_and_rates_are_the_methods_bbn_and_bbn_hls(make_task):
    """Loss weighting alone is `bbn`, both is `bbn_hls`; neither is `bbn` at a constant 1/2."""
    settings = settings_of("bbn_hls")
    variants = mixing.variants(settings.mixing)
    assert tuple(variant.name for variant in variants) == mixing.NAMES
    found = {}
    for variant in variants:
        if variant.name in (*mixing.HALVES, "constant 0.5"):
            task = make_task()
            found[variant.name] = variant.search(task, variant.objective(task, settings.mix))
    alone, rates, both, neither = (found[name] for name in mixing.HALVES)
    assert same(alone, search("bbn", make_task())) and same(both, search("bbn_hls", make_task()))

    def alike(one, other):
        return all(one.alphas[name].equal(other.alphas[name]) for name in one.alphas)

    assert alike(neither, found["constant 0.5"])
    assert not alike(rates, both) and not alike(rates, neither) and not alike(both, alone)


@pytest.mark.slow
def test_it_goes_on_where_it_was_interrupted_and_writes_what_it_measured(preset, tmp_path, capsys):
    changes = {
        "study": {"seeds": [0, 1], "imbalance_factors": [5]},
        "split": {"n_max": 20},
        "search": {"training": {"epochs": 1}, "bilevel": {"initialisation": "scratch"}},
    }
    folder = tmp_path / "out"
    command = [str(preset(**changes)), "--output", str(folder), "--variants", *FEW]
    mixing.main(command)
    said = capsys.readouterr().out
    assert "loss weighting alone: normal 0." in said and "at 1/2, best" in said
    travel, accuracy = (pd.read_csv(folder / f"{name}.csv") for name in ("travel", "accuracy"))
    assert len(travel) == len(FEW) * 4 and set(travel["seeds"]) == {2} and (travel["movement_mean"] > 0).all()
    assert len(accuracy) == len(FEW) * 21 and accuracy["mean"].between(0, 1).all()
    assert (folder / "mixing.png").stat().st_size > 10_000

    file = folder / "searches.jsonl"
    whole = file.read_text()
    file.write_text("\n".join(whole.splitlines()[:-1]) + "\n")
    mixing.main(command)
    computed = [line for line in capsys.readouterr().out.splitlines() if ", seed " in line]
    assert len(computed) == 1 and computed[0].startswith("loss weighting alone, seed 1: ") and file.read_text() == whole

    changes["search"]["training"]["epochs"] = 2
    with pytest.raises(SystemExit, match=r"its results are of search\.training\.epochs 1, not 2"):
        mixing.main([str(preset(**changes)), *command[1:]])
    assert file.read_text() == whole


def test_a_mistake_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"none\.yaml: cannot be read"):
        mixing.main([str(tmp_path / "none.yaml"), "--output", str(tmp_path)])

"""The experiment on the mixing ratio: what its variants change, and that it goes on where it was interrupted."""

from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from benchmarks import mixing
from tailnas.search.methods import bbn, bbn_hls

SMOKE = Path(__file__).parents[3] / "presets" / "smoke.yaml"


def test_weighting_and_rates_are_the_methods_bbn_and_bbn_hls(make_task, tmp_path):
    """Loss weighting alone is `bbn`, both is `bbn_hls`; neither is `bbn` at a constant 1/2."""
    by_name = {variant.name: variant for variant in mixing.variants("linear")}
    assert len(by_name) == 5 + 5 + 4

    def alphas(name):
        variant = by_name[name]
        task = make_task(folder=tmp_path / name, mixing_schedule=variant.schedule, mixing_constant=variant.m)
        how = "mixing" if variant.rates else "constant"
        found = mixing.bilevel_search(task, variant.objective(task), ["instance", "reversed"], heads=how, backbone=how)
        return found.alphas

    def same(first, second):
        return all(torch.equal(first[name], second[name]) for name in first)

    assert same(alphas("loss weighting alone"), bbn.search(make_task(folder=tmp_path / "bbn")).alphas)
    assert same(alphas("both"), bbn_hls.search(make_task(folder=tmp_path / "bbn_hls")).alphas)
    assert same(alphas("neither"), alphas("constant 0.5"))
    alone = alphas("learning rates alone")
    assert not same(alone, alphas("both")) and not same(alone, alphas("neither"))


def test_it_goes_on_where_it_was_interrupted_and_writes_what_it_measured(tmp_path, monkeypatch, capsys):
    document = yaml.safe_load(SMOKE.read_text())
    document["runtime"].update(device="cpu", threads=1)
    document["study"].update(methods=["bbn"], seeds=[0, 1])
    document["search"].update(epochs=1, initialisation="scratch")
    document["split"].update(n_max=20)
    document["study"].update(imbalance_factors=[5])
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(document))
    monkeypatch.setattr(
        mixing, "variants", lambda schedule, all=mixing.variants: all(schedule)[4:6] + all(schedule)[-4:]
    )
    folder = tmp_path / "out"
    mixing.main([str(params), "--output", str(folder)])
    said = capsys.readouterr().out
    assert "loss weighting alone: normal 0." in said and "at 1/2, best" in said
    travel, accuracy = (pd.read_csv(folder / f"{name}.csv") for name in ("travel", "accuracy"))
    assert len(travel) == 6 * 4 and set(travel["seeds"]) == {2} and (travel["movement_mean"] > 0).all()
    assert len(accuracy) == 6 * 21 and accuracy["mean"].between(0, 1).all()
    assert (folder / "mixing.png").stat().st_size > 10_000

    file = folder / "searches.jsonl"
    whole = file.read_text()
    file.write_text("\n".join(whole.splitlines()[:-1]) + "\n")
    computed = []
    searched = mixing.searched
    monkeypatch.setattr(mixing, "searched", lambda *what: computed.append(what[1].name) or searched(*what))
    mixing.main([str(params), "--output", str(folder)])
    assert computed == ["neither"] and file.read_text() == whole

    document["search"].update(epochs=2)
    params.write_text(yaml.safe_dump(document))
    with pytest.raises(SystemExit, match=r"its results are of search\.epochs 1, not 2"):
        mixing.main([str(params), "--output", str(folder)])
    assert file.read_text() == whole


def test_a_mistake_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"none\.yaml: cannot be read"):
        mixing.main([str(tmp_path / "none.yaml"), "--output", str(tmp_path)])

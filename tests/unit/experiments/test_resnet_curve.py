"""The plain training of ResNet-32 beside the pipeline's: same network, same rates, and rows that go on."""

import csv

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from benchmarks import resnet_curve
from benchmarks.resnet_curve import PlainImages, PlainResNet32, main, reference_rate, table
from tailnas.genotype.genotype import Genotype
from tailnas.space.network import Network
from tailnas.training.learning_rate import epoch_learning_rate
from tailnas.validate.presets import load_preset, preset_file

PRESET = preset_file("resnet32-ce")


def test_rates_and_settings_of_the_preset_are_those_of_the_reference() -> None:
    training = load_preset(PRESET).retrain.training
    found = [epoch_learning_rate(training, epoch) for epoch in range(200)]
    assert found == pytest.approx([reference_rate(epoch) for epoch in range(1, 201)], rel=1e-12)
    assert (training.batch_size, training.momentum, training.weight_decay, training.nesterov) == (128, 0.9, 2e-4, False)
    assert (training.last_batch, training.gradient_clip) == ("keep", None)
    assert (training.crop_padding, training.flip) == (4, True)


def test_both_networks_give_the_same_logits_and_gradients() -> None:
    torch.manual_seed(0)
    plain, ours = (
        PlainResNet32(10).double(),
        Network(Genotype(network="resnet32"), 16, cells=3, num_classes=10).double(),
    )
    assert sum(weight.numel() for weight in plain.parameters()) == 464_154
    with torch.no_grad():
        for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
            assert mine.shape == theirs.shape
            mine.copy_(theirs)
    images, labels = torch.randn(8, 3, 32, 32).double(), torch.arange(8)
    logits = [network.train()(images) for network in (plain, ours)]
    for output in logits:
        F.cross_entropy(output, labels).backward()
    assert torch.allclose(*logits, rtol=0, atol=1e-12)
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        assert mine.grad is not None and theirs.grad is not None
        assert torch.allclose(mine.grad, theirs.grad, rtol=0, atol=1e-12)


def test_plain_images_are_shifted_by_four_pixels_at_most_and_each_is_seen_once() -> None:
    images = torch.zeros(300, 3, 32, 32, dtype=torch.uint8)
    images[:, :, 16, 10] = 255
    batches = [*PlainImages(images, torch.arange(300), torch.Generator().manual_seed(0))]
    assert [len(labels) for _, labels in batches] == [128, 128, 44]
    assert torch.equal(torch.cat([labels for _, labels in batches]).sort().values, torch.arange(300))
    places = torch.cat(
        [(shown[:, 0] == shown[:, 0].amax((1, 2), keepdim=True)).nonzero()[:, 1:] for shown, _ in batches]
    )
    assert {*places[:, 0].tolist()} == {*range(12, 21)}
    assert {*places[:, 1].tolist()} == {*range(6, 15), *range(17, 26)}


def test_rows_go_on_where_they_were_interrupted(tmp_path, monkeypatch) -> None:
    small = tmp_path / "small.yaml"
    text = PRESET.read_text().replace("seeds: [0, 1, 2]", "seeds: [3]").replace("channels: 16", "channels: 2")
    target = "target: {kind: glyphs, name: t, alphabet: digits, train_per_class: 10, test_per_class: 2, seed: 0}"
    old = "target: {kind: cifar10, name: cifar10, root: null, url: null, sha256: null}"
    assert old in text
    small.write_text(text.replace(old, target).replace("[100]", "[2]"))
    monkeypatch.setattr(resnet_curve, "PlainResNet32", lambda classes: PlainResNet32(classes, 2))
    main([str(small), "--epochs", "3", "--output", str(tmp_path / "whole")])
    for epochs in ("1", "3"):
        main([str(small), "--epochs", epochs, "--output", str(tmp_path / "parts")])
    for name in ("pipeline-3.csv", "plain-3.csv"):
        whole = (tmp_path / "whole" / name).read_text()
        assert whole == (tmp_path / "parts" / name).read_text()
        rows = [*csv.DictReader(whole.splitlines())]
        assert [row["epoch"] for row in rows] == ["1", "2", "3"]
        assert all(0 <= float(row["test_accuracy"]) <= 1 for row in rows)
        assert [float(row["learning_rate"]) for row in rows] == pytest.approx([0.02, 0.04, 0.06])


def test_rows_of_other_parameters_are_refused(tmp_path) -> None:
    (tmp_path / "params.json").write_text("{}")
    with pytest.raises(SystemExit, match="allowed: the parameters it was begun with, or another folder"):
        main([str(PRESET), "--output", str(tmp_path)])


def test_a_mistake_is_one_line(tmp_path) -> None:
    with pytest.raises(SystemExit, match="--epochs: 201; allowed: from 1 to"):
        main([str(PRESET), "--epochs", "201", "--output", str(tmp_path)])


def test_the_table_pairs_epochs() -> None:
    rows = pd.DataFrame(
        [
            {"training": name, "seed": 0, "epoch": epoch, "loss": 1.0, "accuracy": 0.5, "test_accuracy": value}
            for name, values in (("pipeline", (0.4, 0.5, 0.7)), ("plain", (0.3, 0.5, 0.6)))
            for epoch, value in enumerate(values, 1)
        ]
    )
    lines = [*table(rows, 2)]
    assert [line[0] for line in lines] == ["epochs", "1 to 2", "3 to 3"]
    assert lines[1][5:] == ["45.0", "40.0", "+5.0 [-58.5, +68.5]"]
    assert lines[2][5:] == ["70.0", "60.0", "+10.0"]

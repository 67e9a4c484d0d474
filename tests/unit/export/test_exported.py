import numpy as np
import pytest
import torch

from tailnas.data.dataset import Meta
from tailnas.data.repeated import Repeated
from tailnas.export.card import model_card
from tailnas.export.exported import FORMATS, LARGEST_DIFFERENCE, compared, traced, write_onnx
from tailnas.foundation.errors import UserError
from tailnas.genotype.genotype import DARTS_V1, Genotype
from tailnas.space.network import Network
from tailnas.space.supernet import seeded_initialisation

PIXELS = np.random.default_rng(0).integers(0, 256, (11, 3, 16, 16), np.uint8)


def network(genotype: Genotype = DARTS_V1, branches: int = 1, feature_norm: float | None = None) -> Network:
    with seeded_initialisation(3):
        made = Network(genotype, 4, 4, 5, branches=branches)
        for _ in range(3):
            made(torch.randn(8, 3, 16, 16)) if branches == 1 else None
    made.normalisation, made.temperature = ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)), 0.3
    made.image_size, made.feature_norm = 16, feature_norm
    return made.eval()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("input", ["uint8", pytest.param("float32", marks=pytest.mark.slow)])
def test_the_file_predicts_what_the_network_does(tmp_path, format, input):
    if format == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    own = network()
    write, run, name = FORMATS[format]
    write(traced(own, 16, input), tmp_path / name)
    predict = run(tmp_path / name)
    assert np.ptp(own.predict(PIXELS).numpy(), axis=0).max() > 0.01
    assert compared(own, predict, PIXELS, input)[0] <= 1e-6
    assert compared(own, predict, PIXELS[:1], input)[0] <= 1e-6
    other = network()
    other.temperature = 1.0
    assert compared(other, predict, PIXELS, input)[0] > LARGEST_DIFFERENCE


@pytest.mark.slow
@pytest.mark.parametrize(
    "own",
    [
        lambda: network(Genotype(network="resnet32")),
        lambda: network(branches=2),
        lambda: network(feature_norm=30.0),
    ],
    ids=["resnet32", "two branches", "cosine"],
)
def test_every_kind_of_network(tmp_path, own):
    write, run, name = FORMATS["torch_export"]
    write(traced(own(), 16, "uint8"), tmp_path / name)
    assert compared(own(), run(tmp_path / name), PIXELS, "uint8")[0] <= 1e-6


def test_nan_is_a_difference():
    assert compared(network(), lambda images: np.full((len(images), 5), np.nan), PIXELS, "uint8")[0] == np.inf


def test_the_card_says_what_is_known():
    """Three classes of 10, 4 and 1 test images, the last without: Wilson's interval of 10 in 10 starts at 0.722."""
    own = network()
    own.classes, own.class_counts = ("gull", "a|b", "tern", "c", "d"), (150, 50, 9, 8, 7)
    own.prior, own.class_thresholds, own.miss = (0.6, 0.1, 0.1, 0.1, 0.1), (0.5, 0.2, 0.0, 0.1, 0.1), 0.1
    labels = np.repeat([0, 1, 2], [10, 4, 1])
    probabilities = np.eye(5, dtype=np.float32)[np.where(labels == 1, 0, labels)]
    meta = Meta(
        name="birds",
        kind="folder",
        classes=own.classes,
        image_size=16,
        channels=3,
        train_counts=own.class_counts,
        test_counts=(10, 4, 1, 0, 0),
        repeated=Repeated(images=0, across_parts=0, across_classes=0),
    )
    card = model_card("onnx-darts-30-0-0", own, meta, labels, probabilities, "model.onnx", "uint8", 3e-7)
    assert "| gull | 150 | 10 | 1.000 [0.722, 1.000] | 0.6000 |" in card
    assert "| a\\|b | 50 | 4 | 0.000 [0.000, 0.490] | 0.1000 |" in card
    assert "| d | 7 | 0 | not measured | 0.1000 |" in card
    assert "| many | more than 100 | 1.000 [0.722, 1.000] |" in card
    assert "Nothing is promised for tern: too few images." in card
    assert "- Little is known of a\\|b, tern, c, d: " in card and "`dvc repro export" not in card
    assert "dvc repro export@onnx-darts-30-0-0\n" in card and "Temperature: 0.300, fitted" in card


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("tailnas.export.settings.ONNX_PACKAGES", ("onnx_that_nobody_has",))
    with pytest.raises(
        UserError, match=r"^export\.formats: 'onnx' needs onnx_that_nobody_has, which is not installed; allowed: "
    ):
        write_onnx(None, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())

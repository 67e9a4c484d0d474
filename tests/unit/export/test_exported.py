import numpy as np
import pytest
import torch

from tailnas.export.exported import FORMATS, LARGEST_DIFFERENCE, largest_difference, traced, write_onnx
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
@pytest.mark.parametrize("input", ["uint8", "float32"])
def test_the_file_predicts_what_the_network_does(tmp_path, format, input):
    if format == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    own = network()
    write, run, name = FORMATS[format]
    write(traced(own, 16, input), tmp_path / name)
    predict = run(tmp_path / name)
    assert np.ptp(own.predict(PIXELS).numpy(), axis=0).max() > 0.01
    assert largest_difference(own, predict, PIXELS, input) <= 1e-6
    assert largest_difference(own, predict, PIXELS[:1], input) <= 1e-6
    other = network()
    other.temperature = 1.0
    assert largest_difference(other, predict, PIXELS, input) > LARGEST_DIFFERENCE


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
    assert largest_difference(own(), run(tmp_path / name), PIXELS, "uint8") <= 1e-6


def test_nan_is_a_difference():
    assert largest_difference(network(), lambda images: np.full((len(images), 5), np.nan), PIXELS, "uint8") == np.inf


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"^export\.formats: 'onnx' needs onnx\w*, which is not installed; allowed: "):
        write_onnx(None, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())

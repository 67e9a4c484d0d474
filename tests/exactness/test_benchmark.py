"""The benchmark runs, counts right, and tells what it was given."""

import json

import pytest
import torch
import torch.nn.functional as F

from benchmarks.cases import size
from benchmarks.count import count
from benchmarks.growth import exponent
from benchmarks.search_step import QUICK, main


def test_multiply_adds_of_a_grouped_convolution_and_its_gradients():
    images = torch.randn(2, 6, 8, 8, requires_grad=True)
    kernel = torch.randn(6, 1, 3, 3, requires_grad=True)
    forward = 2 * 6 * 8 * 8 * 9
    assert count(lambda: F.conv2d(images, kernel, padding=1, groups=6)).multiply_adds == forward
    counts = count(lambda: F.conv2d(images, kernel, padding=1, groups=6).sum().backward())
    assert counts.multiply_adds == 3 * forward


def test_views_are_operations_but_no_kernels_and_move_no_bytes():
    matrix = torch.randn(4, 8)
    counts = count(lambda: matrix.t())
    assert (counts.operations, counts.kernels, counts.bytes_touched) == (1, 0, 0)
    counts = count(lambda: matrix.t() @ matrix)
    assert (counts.kernels, counts.multiply_adds) == (1, 8 * 4 * 8)
    assert counts.bytes_touched == 4 * (2 * 4 * 8 + 8 * 8)


@pytest.mark.parametrize("text", ["16x8x32", "0x8x32x32", "4x2x8x16", "4x3x7x16", "4x3x8x18", "4x3x8x12", "axbxcxd"])
def test_sizes_that_mean_nothing_are_refused(text):
    with pytest.raises(ValueError, match=f"size: '{text}'; allowed"):
        size(text)
    with pytest.raises(SystemExit) as stop:
        main(["--sizes", text])
    assert stop.value.code == 2


def test_growth_is_the_slope_in_logarithms():
    assert exponent([(n, 3 * n**1.5) for n in (1, 2, 4, 8)]) == pytest.approx(1.5)


def test_quick_run_prints_both_sides(capsys):
    assert main(["--quick", "--json", "--threads", "1", "--steps", "first"]) == 0
    document = json.loads(capsys.readouterr().out)
    (result,) = document["cases"]
    assert result["case"] == dict(zip(("channels", "cells", "batch", "image"), size(QUICK), strict=True)) | {
        "step": "first"
    }
    for side in ("plain", "tailnas"):
        assert 0 < result[side]["seconds_min"] <= result[side]["seconds_median"]
        assert result[side]["peak_memory"] > 2**26
        assert result[side]["multiply_adds"] > 0
    assert result["ratio"]["speed_min"] == result["plain"]["seconds_min"] / result["tailnas"]["seconds_min"]
    assert document["machine"]["torch"] == torch.__version__


@pytest.mark.slow
def test_growth_writes_its_plot(tmp_path):
    plot = tmp_path / "growth.svg"
    assert main(["--quick", "--growth", "--threads", "1", "--plot", str(plot)]) == 0
    assert plot.read_text().lstrip().startswith("<?xml")

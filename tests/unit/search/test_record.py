"""What a search tells about its alphas."""

import io
import math

import pytest
import torch

from tailnas.genotype.genotype import Genotype, derive_genotype
from tailnas.genotype.primitives import PRIMITIVES
from tailnas.search.record import AlphaRecord

COMPONENTS = ("normal", "reduce", "instance_head", "class_head")


def random_alphas(components, seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(14, 8, generator=generator) for name in components}


def test_record_keeps_a_copy():
    alphas = random_alphas(("normal", "reduce"), 0)
    record = AlphaRecord(alphas)
    alphas["normal"].add_(1)
    record.append(alphas)
    stacked = record.stacked()["normal"]
    assert stacked.shape == (2, 14, 8)
    torch.testing.assert_close(stacked[1], stacked[0] + 1)


def test_record_goes_through_its_state():
    record = AlphaRecord(random_alphas(COMPONENTS, 1))
    record.append(random_alphas(COMPONENTS, 2))
    buffer = io.BytesIO()
    torch.save(record.state_dict(), buffer)
    buffer.seek(0)
    other = AlphaRecord(random_alphas(COMPONENTS, 3))
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert all(torch.equal(values, other.stacked()[name]) for name, values in record.stacked().items())
    assert other.summary() == record.summary()


def test_summary_by_hand():
    """Uniform alphas have entropy ln 8; one alpha at infinity's doorstep has none and moves two softmax weights."""
    uniform = {name: torch.zeros(14, 8) for name in ("normal", "reduce")}
    record = AlphaRecord(uniform)
    start = record.summary()
    assert start["entropy_normal"] == pytest.approx(math.log(8))
    assert start["softmax_movement"] == 0
    decided = {name: values.clone() for name, values in uniform.items()}
    decided["normal"][:, PRIMITIVES.index("skip_connect")] = 50.0
    record.append(decided)
    end = record.summary()
    assert end["entropy_normal"] == pytest.approx(0, abs=1e-12)
    assert end["entropy_reduce"] == pytest.approx(math.log(8))
    assert end["skip_share"] == 0.5
    # normal: one weight from 1/8 to 1, seven from 1/8 to 0, mean over eight; reduce does not move
    assert end["softmax_movement"] == pytest.approx((7 / 8 + 7 / 8) / 8 / 2)
    assert Genotype.from_json(end["genotype"]) == derive_genotype(decided)

"""tailnas's derived networks against the plain reference: float64, relative error under 1e-8."""

import pytest
import torch
import torch.nn.functional as F

from benchmarks.plain_darts import DerivedNetwork
from tailnas.genotype.genotype import DARTS_V1, DARTS_V2, Genotype
from tailnas.genotype.primitives import PRIMITIVES
from tailnas.space.network import Network
from tailnas.space.random_genotype import random_genotype

from .data import CLASSES, devices, moved, random_batch
from .exact import assert_all_close

RANDOM = [random_genotype(torch.Generator().manual_seed(seed)) for seed in range(6)]
GENOTYPES = {"DARTS_V1": DARTS_V1, "DARTS_V2": DARTS_V2, **{f"random {i}": g for i, g in enumerate(RANDOM)}}


def test_every_primitive_is_compared_with_both_strides():
    for stride in (1, 2):
        compared = {
            primitive
            for genotype in GENOTYPES.values()
            for edges in (genotype.normal, genotype.reduce)
            for primitive, source in edges
            if stride == (2 if edges is genotype.reduce and source < 2 else 1)
        }
        assert compared == {*PRIMITIVES} - {"none"}


@pytest.mark.parametrize("pool_norm", [False, True])
@pytest.mark.parametrize("sides", [(16, 16), (20, 24)])
@pytest.mark.parametrize("genotype", GENOTYPES.values(), ids=GENOTYPES)
@devices
def test_forward_gradients_and_statistics_of_derived_networks(device, genotype: Genotype, sides, pool_norm):
    torch.manual_seed(0)
    net = Network(genotype, 4, 4, CLASSES, pool_norm=pool_norm).double()
    for name, weight in net.named_parameters():
        if "norm" in name or name.startswith("stem.1."):
            torch.nn.init.normal_(weight)
    reference = DerivedNetwork(genotype.normal, genotype.reduce, 4, 4, CLASSES, pool_norm=pool_norm).double()
    own, theirs = net.state_dict(), reference.state_dict()
    names = dict(zip(own, theirs, strict=True))  # both are made in the order of the computation
    reference.load_state_dict({names[name]: tensor for name, tensor in own.items()})
    images, labels = random_batch(1, sides=sides)
    net.to(device)
    own_images, own_labels = moved((images, labels), device)
    logits, wanted = net(own_images), reference(images)
    assert_all_close({"logits": logits}, {"logits": wanted})
    F.cross_entropy(logits, own_labels).backward()
    F.cross_entropy(wanted, labels).backward()
    assert_all_close(
        {names[name]: weight.grad for name, weight in net.named_parameters()},
        {name: weight.grad for name, weight in reference.named_parameters()},
    )
    assert_all_close({names[name]: tensor for name, tensor in net.state_dict().items()}, reference.state_dict())

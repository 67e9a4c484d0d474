"""The known answers of the method, through the names that `import tailnas` offers."""

import math
import subprocess
import sys

import pytest
import torch

import tailnas

CIFAR10_IF100 = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


def parameters(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@pytest.mark.parametrize("name", tailnas.__all__)
def test_every_name_is_there(name):
    assert getattr(tailnas, name) is not None
    assert name in dir(tailnas)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"tailnas.*no_such_name"):
        _ = tailnas.no_such_name


def test_import_alone_loads_neither_torch_nor_dvc():
    code = "import sys, tailnas; print(sorted({'torch', 'numpy', 'dvc', 'snakemake'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_library_loads_without_the_engines():
    code = f"import sys, tailnas; [getattr(tailnas, n) for n in {tailnas.__all__!r}]; print('dvc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_class_counts_of_cifar10():
    assert tailnas.class_counts(5000, 10, 100) == CIFAR10_IF100


@pytest.mark.parametrize(
    ("n_max", "classes", "factor", "total"),
    [
        (5000, 10, 10, 20431),
        (5000, 10, 50, 13996),
        (5000, 10, 100, 12406),
        (5000, 10, 200, 11203),
        (500, 100, 10, 19573),
        (500, 100, 50, 12608),
        (500, 100, 100, 10847),
        (500, 100, 200, 9502),
    ],
)
def test_class_counts_sum_as_published(n_max, classes, factor, total):
    assert sum(tailnas.class_counts(n_max, classes, factor)) == total


def test_class_counts_in_steps():
    assert tailnas.class_counts(100, 5, 8, profile="step") == [100, 100, 12, 12, 12]


def test_class_balanced_weights_of_cifar10():
    weights = tailnas.class_balanced_weights(CIFAR10_IF100, 0.9999)
    published = [0.050611, 0.0769, 0.121134, 0.195037, 0.318805, 0.52459, 0.868349, 1.442627, 2.409223, 3.992724]
    torch.testing.assert_close(weights, torch.tensor(published), rtol=0, atol=1e-6)


def test_reversed_class_probabilities_of_cifar10():
    probabilities = tailnas.reversed_class_probabilities(CIFAR10_IF100)
    inverse = [5000 / n for n in CIFAR10_IF100]
    expected = torch.tensor([value / sum(inverse) for value in inverse], dtype=torch.float64)
    torch.testing.assert_close(probabilities, expected, rtol=1e-12, atol=0)
    assert float(probabilities[-1] / probabilities[0]) == pytest.approx(100)


def test_ldam_margins_of_cifar10():
    margins = tailnas.ldam_margins(CIFAR10_IF100)
    expected = [0.5 * (50 / n) ** 0.25 for n in CIFAR10_IF100]
    torch.testing.assert_close(margins, torch.tensor(expected), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("channels", "cells", "expected"), [(16, 8, 1_930_618), (8, 5, 394_210), (4, 3, 72_854)], ids=str
)
def test_parameters_of_the_search_network(channels, cells, expected):
    assert parameters(tailnas.SuperNet(channels, cells, 10)) == expected


@pytest.mark.parametrize(
    ("genotype", "auxiliary", "expected"),
    [
        ("DARTS_V1", False, 3_169_414),
        ("DARTS_V1", True, 3_645_840),
        ("DARTS_V2", False, 3_349_342),
        ("DARTS_V2", True, 3_825_768),
    ],
)
def test_parameters_of_the_published_networks(genotype, auxiliary, expected):
    network = tailnas.Network(getattr(tailnas, genotype), 36, 20, 10, auxiliary=auxiliary)
    assert parameters(network) == expected


def test_derive_genotype_by_hand():
    """Node 0 has edges 0 and 1. `none` is the largest but never chosen, and counts in the denominator."""
    alphas = {name: torch.zeros(14, 8) for name in ("normal", "reduce")}
    alphas["normal"][0, 4] = 2.0  # node 0, input 0: sep_conv_3x3
    alphas["normal"][1, 3] = 1.0  # node 0, input 1: skip_connect
    alphas["normal"][2, 0] = 9.0  # node 1, input 0: none drowns the rest
    alphas["normal"][3, 1] = 0.5  # node 1, input 1: max_pool_3x3
    alphas["normal"][4, 2] = 0.7  # node 1, input 2: avg_pool_3x3
    genotype = tailnas.derive_genotype(alphas)
    assert genotype.normal[:4] == (
        ("sep_conv_3x3", 0),
        ("skip_connect", 1),
        ("avg_pool_3x3", 2),
        ("max_pool_3x3", 1),
    )
    assert set(genotype.reduce) == {("max_pool_3x3", 0), ("max_pool_3x3", 1)}, "ties go to the lowest index"
    assert isinstance(genotype, tailnas.Genotype)


def test_hls_rates_through_the_flat_names():
    mu = tailnas.mixing_ratio("linear", 0.25)
    rates = tailnas.architecture_learning_rates(0.25, 0.1, "linear", "mixing", "mixing")
    assert mu == 0.75
    assert rates == {"backbone": 0.1 * mu, "instance_head": 0.1 * mu, "class_head": 0.1 * (1 - mu)}
    assert math.isclose(tailnas.mixing_ratio("parabolic", 0.25), 1 - 1 / 16)

"""A derived network with the weights of a super-network, as paths of it have them."""

from tailnas.genotype.genotype import Genotype
from tailnas.genotype.primitives import edge_index
from tailnas.space.network import Network
from tailnas.space.supernet import SuperNet


def derived_network(genotype: Genotype, net: SuperNet) -> Network:
    """The network of `genotype`, without pooling: there it has no BatchNorm where the super-network has one.

    Affine weights of BatchNorms, which the super-network lacks, are the identity.
    """
    network = Network(
        genotype,
        net.channels,
        len(net.cells),
        net.num_classes,
        in_channels=net.in_channels,
        reductions=net.reductions,
    )
    network.stem.load_state_dict(net.stem.state_dict())
    network.classifier.load_state_dict(net.classifier.state_dict())
    for derived, searched in zip(network.cells, net.cells, strict=True):
        parts = {"preprocess_older": searched.preprocess_older, "preprocess_newer": searched.preprocess_newer}
        edges = genotype.reduce if searched.reduction else genotype.normal
        for position, (primitive, source) in enumerate(edges):
            parts[f"operations.{position}"] = searched.edges[edge_index(position // 2, source)][primitive]
        for name, part in parts.items():
            missing, unexpected = derived.get_submodule(name).load_state_dict(part.state_dict(), strict=False)
            assert not unexpected and all("norm" in key for key in missing)
    return network

"""A derived network that starts from the weights of the super-network that it was derived from."""

from torch import Tensor

from tailnas.space.cell import SearchCell
from tailnas.space.genotype import Edges
from tailnas.space.network import DerivedCell, Network, doubled
from tailnas.space.primitives import NODES, edge_index
from tailnas.space.supernet import SuperNet
from tailnas.space.two_branch import TwoBranchSuperNet


def inherit_weights(network: Network, net: SuperNet | TwoBranchSuperNet) -> None:
    """Copy weights and running statistics of every operation that `network` keeps, stem and classifier included.

    `network` has the super-network's channels, reductions and depth (a head counts as its last cell; of two branches it
    gets the instance branch). What the search network does not have stays as it is: affine weights of the BatchNorms
    (initially the identity) and the auxiliary head. Raises ValueError where the two do not fit.
    """
    cells = list(net.cells)
    classifier: dict[str, Tensor]
    if isinstance(net, TwoBranchSuperNet):
        cells.append(net.instance_head)
        classifier = {"weight": net.instance_classifier.weight, "bias": net.bias}
    else:
        classifier = net.classifier.state_dict()
    found = (doubled(net.channels, len(net.reductions) + 1), len(cells), net.reductions)
    wanted = (network.channels, len(network.cells), network.reductions)
    if found != wanted:
        raise ValueError(f"channels, cells and reductions are {wanted}, those of the super-network {found}")
    network.stem.load_state_dict(net.stem.state_dict())
    if network.classifier.weight.shape == classifier["weight"].shape:
        network.classifier.load_state_dict(classifier)
    for index, (derived, searched) in enumerate(zip(network.cells, cells, strict=True)):
        assert isinstance(derived, DerivedCell) and isinstance(searched, SearchCell)
        inherit_cell(derived, searched, chosen_edges(network, index, reduction=searched.reduction))


def chosen_edges(network: Network, index: int, *, reduction: bool) -> Edges:
    """The genotype's pairs for cell `index` of the network."""
    if network.genotype.instance_head is not None and index == len(network.cells) - 1:
        return network.genotype.instance_head
    return network.genotype.reduce if reduction else network.genotype.normal


def inherit_cell(derived: DerivedCell, searched: SearchCell, edges: Edges) -> None:
    derived.preprocess_older.load_state_dict(searched.preprocess_older.state_dict(), strict=False)
    derived.preprocess_newer.load_state_dict(searched.preprocess_newer.state_dict(), strict=False)
    for node in range(NODES):
        for position in (2 * node, 2 * node + 1):
            primitive, source = edges[position]
            operation = searched.edges[edge_index(node, source)].get_submodule(primitive)
            derived.operations[position].load_state_dict(
                {key: value for key, value in operation.state_dict().items() if "pool" not in primitive}, strict=False
            )

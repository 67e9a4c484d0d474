"""The DARTS search space: primitives, cells, genotypes, the super-networks and the networks derived from them."""

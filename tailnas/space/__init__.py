"""The DARTS search space: operations, cells, the super-networks and the networks derived from them."""

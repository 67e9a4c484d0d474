"""Deriving the genotype from what the search found: the choice of an epoch, and drawings of the cells."""

"""Measuring trained networks on the test set."""

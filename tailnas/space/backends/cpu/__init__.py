"""The search network in training on a CPU."""

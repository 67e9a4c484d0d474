"""Losses of retraining, one per file: `retrain.loss.name`. docs/extending.md tells how to add one."""

"""The training loop, its checkpoints, history and progress."""

"""The training loop, checkpoints, devices and progress."""

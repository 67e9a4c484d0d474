"""What a machine with one GPU is asked, in order of worth, a few minutes at a time."""

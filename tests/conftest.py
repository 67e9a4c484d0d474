"""Tests share their cores, as stages do."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "10000")

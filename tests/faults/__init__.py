"""Kills, damage and limits over all stages and both engines: `make test-faults`."""

"""Metrics of retrained networks, statistics over seeds, and the report of a study."""

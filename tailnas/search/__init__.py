"""Bilevel and two-branch architecture search."""

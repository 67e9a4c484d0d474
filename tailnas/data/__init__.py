"""Data sets and splits in files."""

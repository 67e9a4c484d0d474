"""Kinds of data, one per file: `data.source.kind`, `data.target.kind`. docs/extending.md tells how to add one."""

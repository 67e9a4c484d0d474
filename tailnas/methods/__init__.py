"""Search methods, one per file: `study.methods`. docs/extending.md tells how to add one."""

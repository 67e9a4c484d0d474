"""Head adaptations, one per file: `adapt.method`. docs/extending.md tells how to add one."""

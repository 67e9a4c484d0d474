"""All runs of a study in one page, in tables, in the figures between them and in words about what they can tell."""

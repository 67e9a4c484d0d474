"""Ways to compute the search network that give the same numbers as its plain definition, sooner."""

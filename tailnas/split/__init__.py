"""Making the target long-tailed."""

"""Probabilities that mean what they say, and decisions made with them: numpy alone."""

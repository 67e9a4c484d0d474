"""The calibrate stage: probabilities of the adapted network that mean what they say."""

"""Training the super-network on the balanced source."""

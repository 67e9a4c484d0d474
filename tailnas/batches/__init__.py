"""Batches made on the device that holds the images."""

"""Image data: sources, storage, long-tailed splits and batches that live on the device."""

"""What counters class imbalance: samplers, re-weighted losses and head adaptation."""

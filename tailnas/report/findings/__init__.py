"""What a study can and cannot tell apart, in plain sentences made from its numbers."""

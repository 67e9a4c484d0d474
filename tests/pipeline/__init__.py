"""The pipeline as its users meet it: two engines, kills, damaged files."""

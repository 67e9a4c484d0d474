"""What every stage stands on: errors, random streams, settings from params.yaml, and the stage's own life."""

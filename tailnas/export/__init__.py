"""The export stage: a trained model as a file that runs without tailnas."""

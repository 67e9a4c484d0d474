"""A trained model used on images: `python -m tailnas.predict MODEL IMAGE...`, or `tailnas.load_model` in Python."""

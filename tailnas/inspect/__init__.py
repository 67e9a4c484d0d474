"""A look at a folder of images before anything is computed from it: `python -m tailnas.inspect FOLDER`."""

"""Searches: by gradient, and by ranking; the methods themselves are the files of tailnas/methods."""

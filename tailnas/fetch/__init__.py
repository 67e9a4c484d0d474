"""Bringing data sets into data/raw; the kinds themselves are the files of tailnas/sources."""

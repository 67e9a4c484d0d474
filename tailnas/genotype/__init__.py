"""Genotypes: the cells that a search ends with, in words and in files; no network is built here."""

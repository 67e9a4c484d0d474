"""Adapting a trained head; the methods are the files of tailnas/heads."""

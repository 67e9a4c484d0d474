"""Checking the whole of params.yaml before anything is computed."""

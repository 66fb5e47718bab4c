"""Formats of training files: one file each, listed in `registry`."""

"""Rendered faces: the built-in data sets demo7 and demo11, and the training of the bundled weights."""

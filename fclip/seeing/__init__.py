"""The one way from a source to what a model is shown: read -> crop -> analyse -> describe -> sample.

The stages take these steps with a disk between them, prediction takes them in memory.
"""

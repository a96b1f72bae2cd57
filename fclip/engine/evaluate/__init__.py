"""Predictions, metrics and results of runs."""

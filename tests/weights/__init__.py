"""Tests of the rendered faces."""

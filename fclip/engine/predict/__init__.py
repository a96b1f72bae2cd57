"""Prediction over videos of any length."""

"""Training and evaluation loops and metrics."""

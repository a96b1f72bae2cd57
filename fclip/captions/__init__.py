"""Captions of facial movement: back ends, prompts, refinement, the leak probe."""

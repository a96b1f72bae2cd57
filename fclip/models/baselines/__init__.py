"""DFER-CLIP and the baselines of both papers."""

"""Packed clips on their way into a model: access, order, augmentation, batches."""

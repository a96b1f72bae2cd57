"""Batches for a model: loading, preparing on the device, cached features, processes."""

"""Data sets on disk: official layouts, video decoding and sampling, shards, feature caches, splits, the loader."""

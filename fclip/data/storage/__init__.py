"""What fclip keeps on disk: shards, packed samples, HDF5 parts, caption lines, splits."""

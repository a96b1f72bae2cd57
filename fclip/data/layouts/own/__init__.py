"""A user's own clips: in folders, or in a list."""

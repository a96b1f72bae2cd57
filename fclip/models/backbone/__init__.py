"""The image-text model that variants build on: loading, its attention blocks, the bundled `tiny`."""

"""One way of seeing a clip: from a source to what a model reads."""

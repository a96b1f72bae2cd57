"""The offline captioner: landmarks -> measures -> activation -> moves -> wording."""

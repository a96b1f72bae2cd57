"""FineCLIPER: frames -> texts -> similarity and fusion -> loss."""

"""FaceXFormer (Narayan et al., 2024): one transformer for face parsing, landmarks, pose and attributes, for video."""

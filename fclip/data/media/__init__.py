"""Media: exact video decoding, frame sampling, pictures, H.264 writing."""

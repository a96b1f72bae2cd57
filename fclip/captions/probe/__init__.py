"""Probes of captions: leaks, lengths, a review queue."""

"""Captioning back ends, their prompts and answers."""

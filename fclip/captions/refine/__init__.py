"""Refinement: captions without what names or implies an emotion."""

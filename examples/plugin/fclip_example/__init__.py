"""A variant, a face back end and a captioner of one's own: `pip install examples/plugin`."""

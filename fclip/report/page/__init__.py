"""A report as blocks, and as HTML, Markdown or LaTeX."""

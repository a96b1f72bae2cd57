"""The bundled face back end `lite`."""

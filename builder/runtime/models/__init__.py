"""The Python stages, a folder each."""

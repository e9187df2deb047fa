"""Artifacts that need not be made again, by what they were made from."""

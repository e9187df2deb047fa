"""Artifacts against their source model."""

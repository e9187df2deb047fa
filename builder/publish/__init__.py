"""Staging folder, manifest, and the one atomic step that publishes a repository."""

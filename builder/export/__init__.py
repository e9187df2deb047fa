"""Source models to artifacts."""

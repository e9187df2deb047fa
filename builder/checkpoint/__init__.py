"""Hugging Face checkpoints: where they lie, what is read of them, what is refused."""

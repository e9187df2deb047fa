"""Layers of decoder-only models as they are exported, over a shared KV cache."""

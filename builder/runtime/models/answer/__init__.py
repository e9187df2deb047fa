"""The last stage of extractive question answering: logits to a span of the context."""

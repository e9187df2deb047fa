"""The last stage of a token classifier: logits to entities."""

"""The last stage of a text classifier: logits to labels and scores."""

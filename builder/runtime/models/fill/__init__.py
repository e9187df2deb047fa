"""The last stage of a masked language model: logits of the mask to tokens."""

"""The decoder stage of encoder-decoder models: the encoder's states in, text out."""

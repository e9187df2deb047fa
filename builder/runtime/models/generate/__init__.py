"""Text generation: a prompt or a conversation in, streamed text out."""

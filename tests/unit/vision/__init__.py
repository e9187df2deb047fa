"""Vision and relevance artifacts against the plain torch modules."""

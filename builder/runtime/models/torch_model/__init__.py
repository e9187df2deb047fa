"""A stage that runs a checkpoint with torch; the only one that needs torch in the server."""

"""What Python stages share."""

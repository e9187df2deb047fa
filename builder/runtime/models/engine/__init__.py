"""What Python stages that run a graph share."""

"""Code that is copied into a deployment and runs inside Triton."""

"""One exported fp32 graph becomes the artifact asked for: fused, converted, measured, chosen."""

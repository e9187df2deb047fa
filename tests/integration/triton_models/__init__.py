"""Small models that show what Triton does with a setting."""

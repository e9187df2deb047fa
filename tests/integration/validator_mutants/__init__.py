"""Mutants of valid models and ensembles, and the real server's verdict on them."""

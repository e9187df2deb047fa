"""Ensembles that a user wires: everything but the names is inferred from the steps."""

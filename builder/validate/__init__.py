"""Triton's load checks, offline, on any repository."""

from builder.validate.findings import Finding, Problem
from builder.validate.registry import RULES, Rule
from builder.validate.target import Target
from builder.validate.validator import (
    load_models,
    release_of_repository,
    validate_models,
    validate_repository,
)

__all__ = [
    "RULES",
    "Finding",
    "Problem",
    "Rule",
    "Target",
    "load_models",
    "release_of_repository",
    "validate_models",
    "validate_repository",
]

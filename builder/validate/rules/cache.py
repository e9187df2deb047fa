"""Response cache and decoupled models."""

from collections.abc import Iterator

from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import rule

_SECTION = "response cache and decoupled"


@rule(
    "cache.sequence",
    section=_SECTION,
    reason="a response that depends on a sequence cannot be cached",
    source="config",
)
def cache_without_sequence(model: Model) -> Iterator[Problem]:
    """No response cache with `sequence_batching`."""
    if model.config.response_cache.enable and model.config.HasField("sequence_batching"):
        yield Problem(
            "response_cache.enable",
            "the response cache does not work with sequence_batching",
            "remove response_cache",
        )


@rule(
    "cache.decoupled",
    section=_SECTION,
    reason="a stream of responses cannot be cached",
    source="config",
)
def cache_without_decoupled(model: Model) -> Iterator[Problem]:
    """No response cache with a decoupled model."""
    policy = model.config.model_transaction_policy
    if model.config.response_cache.enable and policy.decoupled:
        yield Problem(
            "response_cache.enable",
            "the response cache does not work with a decoupled model",
            "remove response_cache",
        )

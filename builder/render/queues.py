"""The bound that a queue has where the spec says nothing of it."""

from dataclasses import replace

from builder.render.model_config import ModelConfig
from builder.spec.triton import QueuePolicy

LONGEST_WAIT_MICROSECONDS = 30_000_000

_DEFAULT = QueuePolicy(default_timeout_microseconds=LONGEST_WAIT_MICROSECONDS)


def bounded(config: ModelConfig) -> ModelConfig:
    """A config whose batcher refuses what has waited for 30 s, as UNAVAILABLE.

    By time and not by `max_queue_size`: before Triton 26.02, a request that a full queue refuses
    to a step of an ensemble is never answered (core pull request 466; with 24.10, 60 of 72).
    A request that waited too long is refused in good order by every release.
    """
    batching = config.dynamic_batching
    if batching is None or batching.default_queue_policy is not None:
        return config
    known = batching.model_copy(update={"default_queue_policy": _DEFAULT})
    return replace(config, dynamic_batching=known)

"""Batch sizes, priorities and queue policies."""

from collections.abc import Iterator

from tritonclient.grpc import model_config_pb2 as pb

from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import rule

_BATCHING = "batching and preferred sizes"
_PRIORITY = "priority levels and queue policies"
_ORDER = "preserve_ordering"


@rule(
    "batching.max-batch-size",
    section=_BATCHING,
    reason="0 means no batching; less means nothing",
    source="config",
)
def max_batch_size_is_not_negative(model: Model) -> Iterator[Problem]:
    """`max_batch_size` is 0 or more."""
    if model.config.max_batch_size < 0:
        yield Problem(
            "max_batch_size",
            f"max_batch_size is {model.config.max_batch_size}",
            "use 0 for no batching, else the largest batch",
        )


@rule(
    "batching.preferred-size",
    section=_BATCHING,
    reason="a preferred batch must be one that the model takes",
    source="config",
)
def preferred_sizes_fit(model: Model) -> Iterator[Problem]:
    """Preferred batch sizes are between 1 and `max_batch_size`."""
    maximum = model.config.max_batch_size
    for index, size in enumerate(model.config.dynamic_batching.preferred_batch_size):
        if not 0 < size <= maximum:
            yield Problem(
                f"dynamic_batching.preferred_batch_size[{index}]",
                f"the preferred batch size {size} is not between 1 and max_batch_size {maximum}",
                "lower it, raise max_batch_size, or remove preferred_batch_size",
            )


@rule(
    "batching.default-priority",
    section=_PRIORITY,
    reason="a request without a priority needs a level that exists",
    source="config",
)
def default_priority_exists(model: Model) -> Iterator[Problem]:
    """`default_priority_level` is a level, where there are levels."""
    batching = model.config.dynamic_batching
    levels, default = batching.priority_levels, batching.default_priority_level
    if levels and not 0 < default <= levels:
        yield Problem(
            "dynamic_batching.default_priority_level",
            f"default_priority_level is {default}, the levels are 1 to {levels}",
            f"set it to a level from 1 (highest) to {levels}",
        )


@rule(
    "batching.priority-policy",
    section=_PRIORITY,
    reason="a queue policy belongs to a level that exists",
    source="config",
)
def policies_have_levels(model: Model) -> Iterator[Problem]:
    """The keys of `priority_queue_policy` are levels, where there are levels."""
    batching = model.config.dynamic_batching
    levels = batching.priority_levels
    for level in sorted(batching.priority_queue_policy):
        if levels and not 0 < level <= levels:
            yield Problem(
                f'dynamic_batching.priority_queue_policy["{level}"]',
                f"there is a queue policy for level {level}, the levels are 1 to {levels}",
                "remove it or raise priority_levels",
            )


@rule(
    "batching.order-levels",
    section=_ORDER,
    reason="responses cannot keep the order of requests that overtake each other",
    source="config",
)
def order_has_one_level(model: Model) -> Iterator[Problem]:
    """`preserve_ordering` allows one priority level."""
    batching = model.config.dynamic_batching
    if batching.preserve_ordering and batching.priority_levels > 1:
        yield Problem(
            "dynamic_batching.preserve_ordering",
            f"preserve_ordering is true with {batching.priority_levels} priority levels",
            "keep one of the two",
        )


@rule(
    "batching.order-delay",
    section=_ORDER,
    reason="a request that is put back after a timeout loses its place",
    source="config",
)
def order_has_no_delay(model: Model) -> Iterator[Problem]:
    """`preserve_ordering` allows no queue policy that delays after a timeout."""
    batching = model.config.dynamic_batching
    if not batching.preserve_ordering:
        return
    policies = [("dynamic_batching.default_queue_policy", batching.default_queue_policy)]
    policies += [
        (f'dynamic_batching.priority_queue_policy["{level}"]', policy)
        for level, policy in sorted(batching.priority_queue_policy.items())
    ]
    for path, policy in policies:
        delays = policy.timeout_action == pb.ModelQueuePolicy.DELAY
        if delays and policy.default_timeout_microseconds:
            yield Problem(
                f"{path}.timeout_action",
                "the queue policy delays after a timeout, and preserve_ordering is true",
                "use REJECT, or remove preserve_ordering",
            )

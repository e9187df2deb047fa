"""`dynamic_batching`: the queue that joins requests."""

from typing import Literal

from pydantic import Field, model_validator

from builder.spec.base import Microseconds, PositiveInt, Strict, UInt32


class QueuePolicy(Strict):
    """What happens to requests that wait."""

    timeout_action: Literal["REJECT", "DELAY"] = Field(
        default="REJECT",
        description="A request that waited too long is refused, or runs after all others.",
    )
    default_timeout_microseconds: Microseconds = Field(
        default=0, description="Longest wait in the queue; 0: none."
    )
    allow_timeout_override: bool = Field(
        default=False, description="A request may ask for a shorter timeout of its own."
    )
    max_queue_size: UInt32 = Field(
        default=0, description="Requests that may wait; more are refused. 0: any number."
    )


class DynamicBatching(Strict):
    """Triton's dynamic batcher."""

    preferred_batch_size: list[PositiveInt] = Field(
        default_factory=list, description="Batch sizes to form at once when the queue allows."
    )
    max_queue_delay_microseconds: Microseconds = Field(
        default=0, description="Longest wait for more requests, in microseconds."
    )
    preserve_ordering: bool = Field(
        default=False, description="Send responses in the order of the requests."
    )
    priority_levels: Microseconds = Field(
        default=0, description="Levels from 1, the highest, that a request may ask for; 0: none."
    )
    default_priority_level: Microseconds = Field(
        default=0, description="Level of a request that does not say."
    )
    default_queue_policy: QueuePolicy | None = Field(
        default=None,
        description="null: a request that has waited for 30 s is refused as UNAVAILABLE. {}: none "
        "ever is.",
    )
    priority_queue_policy: dict[PositiveInt, QueuePolicy] = Field(
        default_factory=dict, description="Level -> its policy, in place of the default one."
    )

    @model_validator(mode="after")
    def _levels_exist(self) -> "DynamicBatching":
        levels, default = self.priority_levels, self.default_priority_level
        if levels and not 1 <= default <= levels:
            raise ValueError(
                f"priority_levels {levels} needs a default_priority_level from 1 to {levels}, not "
                f"{default}"
            )
        if not levels:
            for key in ("default_priority_level", "priority_queue_policy"):
                if getattr(self, key):
                    raise ValueError(f"{key} has no meaning without priority_levels")
        beyond = [level for level in self.priority_queue_policy if level > levels]
        if beyond:
            raise ValueError(
                f"priority_queue_policy has a level {beyond[0]}; priority_levels is {levels}"
            )
        return self

    @model_validator(mode="after")
    def _order_can_be_kept(self) -> "DynamicBatching":
        if not self.preserve_ordering:
            return self
        if self.priority_levels > 1:
            raise ValueError(
                "preserve_ordering and priority_levels above 1 exclude each other: requests of "
                "different levels overtake each other"
            )
        policies = (self.default_queue_policy, *self.priority_queue_policy.values())
        for policy in policies:
            if policy and policy.timeout_action == "DELAY" and policy.default_timeout_microseconds:
                raise ValueError(
                    "preserve_ordering and timeout_action DELAY exclude each other: a delayed "
                    "request loses its place"
                )
        return self

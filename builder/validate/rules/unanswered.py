"""Requests that Triton takes and never answers: configs that load and make them possible."""

from collections.abc import Iterator

from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import rule

_SECTION = "advice"
_QUEUES_ANSWER = "26.02"
"""The first release whose ensembles answer a request that a step's queue refuses."""


@rule(
    "advice.unanswered-input",
    section=_SECTION,
    reason="Triton counts inputs: a request that lacks a required one and has an optional one is "
    "taken, and the ensemble waits for ever",
    source="request",
    severity="advice",
)
def missing_inputs_are_answered(model: Model) -> Iterator[Problem]:
    """The inputs of an ensemble are all optional, or none is."""
    if not model.is_ensemble:
        return
    optional = [entry.name for entry in model.config.input if entry.optional]
    for index, entry in enumerate(model.config.input):
        if optional and not entry.optional:
            yield Problem(
                f"input[{index}].optional",
                f"a request without {entry.name!r} and with {optional[0]!r} is never answered",
                "write optional: true here too; the step that reads it refuses the request",
            )


@rule(
    "advice.step-queue-hangs",
    section=_SECTION,
    reason=f"before {_QUEUES_ANSWER}, a request that the full queue of a step refuses is never "
    "answered",
    source="ensemble_scheduler",
    severity="advice",
)
def full_queues_answer(model: Model) -> Iterator[Problem]:
    """No step of an ensemble has `max_queue_size` where the release can't answer."""
    if model.target.release >= _QUEUES_ANSWER:
        return
    for index, step in enumerate(model.config.ensemble_scheduling.step):
        sibling = model.siblings.get(step.model_name)
        if sibling is None or sibling.unusable:
            continue
        batching = sibling.config.dynamic_batching
        policies = [batching.default_queue_policy, *batching.priority_queue_policy.values()]
        if any(policy.max_queue_size for policy in policies):
            yield Problem(
                f"ensemble_scheduling.step[{index}].model_name",
                f"{step.model_name!r} has a max_queue_size: with Triton {model.target.release}, "
                "a request that its full queue refuses is never answered",
                "bound the queue by default_timeout_microseconds instead",
            )

"""What an ensemble says of its inputs, so that no request is left without an answer."""

from collections.abc import Sequence
from dataclasses import replace

from builder.render.model_config import Tensor


def answered(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Inputs of an ensemble: where one is optional, all are.

    Triton counts inputs and doesn't look which: a request that lacks a required one and has an
    optional one is taken (`ValidateRequestInputs`, 24.10 to 26.06), and the ensemble then waits for
    ever for the missing tensor. As an optional one it is missing at once: the step that reads it
    is asked without it, and says so (Triton, where all of the step's inputs are required; the step
    itself, where some are not).
    """
    if not any(tensor.optional for tensor in inputs):
        return tuple(inputs)
    return tuple(replace(tensor, optional=True) for tensor in inputs)

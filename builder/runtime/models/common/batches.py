"""Requests of equal shapes share one run of the graph."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[Arrays], Arrays]
"""Inputs [B, ...] -> every output [B, ...]."""


Limits = Mapping[str, int]
"""Input -> what its values must be below: rows of the table that they are looked up in."""


def answer_requests(
    requests: Sequence[Any], outputs: Sequence[str], run: Run, limits: Limits
) -> list[Any]:
    """A response for each request, in their order.

    Args:
        requests: What Triton's batcher joined; each has a batch dim of its own.
        outputs: Names of the graph's outputs.
        run: Runs the graph.
        limits: Of the inputs that are indices.
    """
    responses: list[Any] = [None] * len(requests)
    groups: dict[Any, list[int]] = {}
    inputs: list[dict[str, NDArray[Any]]] = []
    for index, request in enumerate(requests):
        inputs.append({tensor.name(): tensor.as_numpy() for tensor in request.inputs()})
        refusal = _refusal(inputs[index], limits)
        if refusal:
            error = pb_utils.TritonError(refusal, pb_utils.TritonError.INVALID_ARG)
            responses[index] = pb_utils.InferenceResponse(error=error)
            continue
        shapes = tuple(sorted((name, array.shape[1:]) for name, array in inputs[index].items()))
        groups.setdefault(shapes, []).append(index)
    for group in groups.values():
        for index, result in zip(group, _answers([inputs[i] for i in group], run), strict=True):
            if isinstance(result, str):
                error = pb_utils.TritonError(result, pb_utils.TritonError.INTERNAL)
                responses[index] = pb_utils.InferenceResponse(error=error)
                continue
            wanted = set(requests[index].requested_output_names())
            responses[index] = pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, result[name]) for name in outputs if name in wanted]
            )
    return responses


def _refusal(inputs: Arrays, limits: Limits) -> str:
    """What is wrong with the values of a request; empty: nothing."""
    for name, limit in limits.items():
        values = inputs[name]
        strange = values[(values < 0) | (values >= limit)]
        if strange.size:
            return f"{name} holds {strange[0]}; the model knows 0 to {limit - 1}"
    return ""


def _answers(group: Sequence[Arrays], run: Run) -> list[Arrays | str]:
    """The outputs of each, or why there are none; one that fails does not fail the others."""
    joined = group[0]
    if len(group) > 1:
        joined = {name: np.concatenate([one[name] for one in group]) for name in joined}
    try:
        results = run(joined)
    except Exception as error:
        if len(group) == 1:
            lines = str(error).strip().splitlines()
            return [lines[0] if lines else type(error).__name__]
        return [answer for one in group for answer in _answers([one], run)]
    answers: list[Arrays | str] = []
    start = 0
    for one in group:
        stop = start + len(next(iter(one.values())))
        answers.append({name: array[start:stop] for name, array in results.items()})
        start = stop
    return answers

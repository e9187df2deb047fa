"""`parameters` that a backend reads at load."""

import re
from collections.abc import Iterator

from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import rule

_SECTION = "parameters"
_INTEGER = re.compile(r"\s*[+-]?[0-9]")
_ONNX_INTEGERS = ("intra_op_thread_count", "inter_op_thread_count", "execution_mode")
_ONNX_BOOLEANS = ("enable_mem_arena", "enable_mem_pattern", "share_session_between_instances")
_BOOLEANS = ("true", "false", "1", "0")


@rule(
    "parameters.onnx-number",
    section=_SECTION,
    reason="the backend converts the parameter to a number at load",
    source="onnxruntime",
)
def onnx_parameters_are_numbers(model: Model) -> Iterator[Problem]:
    """Thread counts and `execution_mode` are numbers, the latter 0 or 1."""
    if model.backend != "onnxruntime":
        return
    for key in _ONNX_INTEGERS:
        if key not in model.config.parameters:
            continue
        value = model.config.parameters[key].string_value
        allowed = ("0", "1") if key == "execution_mode" else ()
        if not _INTEGER.match(value) or (allowed and value.strip() not in allowed):
            yield Problem(
                f'parameters["{key}"]',
                f"the parameter {key} is {value!r}",
                "use 0 (sequential) or 1 (parallel)" if allowed else "use a whole number",
            )


@rule(
    "parameters.onnx-boolean",
    section=_SECTION,
    reason="the backend converts the parameter to a truth value at load",
    source="onnxruntime",
)
def onnx_parameters_are_booleans(model: Model) -> Iterator[Problem]:
    """Memory and session switches are true or false."""
    if model.backend != "onnxruntime":
        return
    for key in _ONNX_BOOLEANS:
        if key in model.config.parameters:
            value = model.config.parameters[key].string_value
            if value.lower() not in _BOOLEANS:
                yield Problem(
                    f'parameters["{key}"]', f"the parameter {key} is {value!r}", "use true or false"
                )


@rule(
    "parameters.force-cpu",
    section=_SECTION,
    reason="the Python backend knows yes and no",
    source="python",
)
def force_cpu_is_yes_or_no(model: Model) -> Iterator[Problem]:
    """`FORCE_CPU_ONLY_INPUT_TENSORS` is yes or no."""
    key = "FORCE_CPU_ONLY_INPUT_TENSORS"
    if model.backend == "python" and key in model.config.parameters:
        value = model.config.parameters[key].string_value
        if value not in ("yes", "no"):
            yield Problem(
                f'parameters["{key}"]', f"the parameter {key} is {value!r}", "use yes or no"
            )


@rule(
    "parameters.batch-strategy",
    section=_SECTION,
    reason="the sequence batcher takes no custom batching strategy",
    source="backend",
)
def batch_strategy_without_sequence(model: Model) -> Iterator[Problem]:
    """`TRITON_BATCH_STRATEGY_PATH` does not go with `sequence_batching`."""
    key = "TRITON_BATCH_STRATEGY_PATH"
    if key in model.config.parameters and model.config.HasField("sequence_batching"):
        yield Problem(
            f'parameters["{key}"]',
            "a custom batching strategy does not work with sequence_batching",
            "remove the parameter",
        )


@rule(
    "parameters.batch-strategy-file",
    section=_SECTION,
    reason="Triton loads the library at load, by its path on the server",
    source="backend",
    severity="advice",
)
def batch_strategy_is_on_the_server(model: Model) -> Iterator[Problem]:
    """`TRITON_BATCH_STRATEGY_PATH` is a path on the server, which is not seen from here."""
    key = "TRITON_BATCH_STRATEGY_PATH"
    if key in model.config.parameters and not model.is_ensemble:
        value = model.config.parameters[key].string_value
        yield Problem(
            f'parameters["{key}"]',
            f"the model loads only where {value!r} exists on the server",
            "mount the library there, or put batchstrategy.so into the model's folder instead",
        )

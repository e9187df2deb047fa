"""The tensors of an ONNX graph as ONNX Runtime reports them, which is how Triton sees them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import onnxruntime as ort

from builder.errors import CheckpointError
from builder.spec.onnx_file import OnnxDataType, OnnxTensor

_TYPES: Final[dict[str, OnnxDataType]] = {
    "bool": "BOOL",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "string": "STRING",
    **{name.lower(): name for name in get_args(OnnxDataType) if re.fullmatch(r"U?INT\d+", name)},
}
"""ONNX Runtime's name of an element type -> Triton's."""


@dataclass(frozen=True)
class GraphTensor:
    """An input or output.

    Attributes:
        name: Its name.
        data_type: Triton's type, without `TYPE_`.
        dims: Sizes; a str names a free dim: the graph's name, else `TENSOR.AXIS`.
        optional: Whether an initializer stands for it.
    """

    name: str
    data_type: OnnxDataType
    dims: tuple[int | str, ...]
    optional: bool = False

    def spec(self, *, batched: bool) -> OnnxTensor:
        """The tensor of a spec."""
        dims = [dim if isinstance(dim, int) else -1 for dim in self.dims[1 if batched else 0 :]]
        return OnnxTensor(
            name=self.name, data_type=self.data_type, dims=dims, optional=self.optional
        )


@dataclass(frozen=True)
class GraphSignature:
    """What a graph takes and gives.

    Attributes:
        inputs: What a request must give.
        optional: What it may give.
        outputs: What it gets.
        left_out: Outputs that are no tensors of a type that Triton has, and why.
    """

    inputs: tuple[GraphTensor, ...]
    optional: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    left_out: dict[str, str]

    @property
    def batch_candidates(self) -> bool:
        """Whether the first dim of every input and output is free."""
        return all(
            bool(tensor.dims) and isinstance(tensor.dims[0], str)
            for tensor in (*self.inputs, *self.outputs)
        )


def read_signature(session: ort.InferenceSession, source: str) -> GraphSignature:
    """The signature of an open session.

    Args:
        session: The session.
        source: The file, for messages.

    Raises:
        CheckpointError: an input, or every output, is of a type that Triton does not serve.
    """
    outputs, left_out = [], {}
    for argument in session.get_outputs():
        reason = _refusal(argument)
        if reason:
            left_out[argument.name] = reason
        else:
            outputs.append(_tensor(argument))
    if not outputs:
        raise CheckpointError(
            f"{source}: output '{session.get_outputs()[0].name}' {next(iter(left_out.values()))}, "
            "and there is no other"
        )
    return GraphSignature(
        inputs=tuple(_inputs(session.get_inputs(), source)),
        optional=tuple(
            _tensor(argument, optional=True)
            for argument in session.get_overridable_initializers()
            if not _refusal(argument)
        ),
        outputs=tuple(outputs),
        left_out=left_out,
    )


def _inputs(arguments: Sequence[Any], source: str) -> Iterable[GraphTensor]:
    if not arguments:
        raise CheckpointError(f"{source}: the graph has no inputs; there is nothing to ask it")
    for argument in arguments:
        reason = _refusal(argument)
        if reason:
            raise CheckpointError(f"{source}: input '{argument.name}' {reason}")
        yield _tensor(argument)


def _refusal(argument: Any) -> str:
    """Why Triton's backend can't serve a value; "" where it can."""
    found = re.fullmatch(r"tensor\((\w+)\)", argument.type)
    if not found:
        kind = argument.type.partition("(")[0]
        if argument.type.startswith("seq(map("):
            return (
                "is a sequence of maps, as ZipMap gives; Triton serves tensors only: convert the "
                "model with options={'zipmap': False} (skl2onnx)"
            )
        return f"is a {kind} ({argument.type}); Triton serves tensors only"
    if found[1] not in _TYPES:
        return f"is of type {found[1]}, which Triton's ONNX Runtime backend does not serve"
    if any(dim == 0 for dim in argument.shape or ()):
        return f"has the dims {list(argument.shape)}: a dim of 0 is none that Triton takes"
    return ""


def _tensor(argument: Any, *, optional: bool = False) -> GraphTensor:
    element = argument.type[len("tensor(") : -1]
    dims: list[int | str] = []
    for axis, dim in enumerate(argument.shape or ()):
        known = dim > 0 if isinstance(dim, int) else bool(re.fullmatch(r"[\w.]+", dim or ""))
        # Else it is None, "?", or a formula.
        dims.append(dim if known else f"{argument.name}.{axis}")
    return GraphTensor(argument.name, _TYPES[element], tuple(dims), optional)

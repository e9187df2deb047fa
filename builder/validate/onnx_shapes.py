"""Output dims of an ONNX graph as ONNX Runtime infers them.

A session reports an output's dims as the file states them, with every free dim filled in that
shape inference can tell, and Triton compares these with the config's. Inference needs the nodes
and the small constants but not the weights, so it is run on a copy without them.
https://onnx.ai/onnx/api/shape_inference.html
"""

import mmap

import onnx
from google.protobuf.message import DecodeError

from builder.validate.onnx_wire import (
    BYTES,
    VARINT,
    WireError,
    encode_bytes,
    encode_varint,
    fields,
)

LEAN_LIMIT = 64 << 20
"""Bytes of the largest graph without weights that is inferred."""
_CONSTANT_LIMIT = 16 << 10
"""Bytes of the largest constant that is kept with its data."""
_MODEL_GRAPH, _GRAPH_INITIALIZER = 7, 5
_FAILURES = (ValueError, RuntimeError, TypeError, AttributeError)
"""What shape inference raises besides, on a graph that makes no sense."""
_TENSOR_HEAD = frozenset({1, 2, 8})
"""Fields of a tensor that tell its dims, type and name."""


def infer_outputs(data: mmap.mmap) -> dict[str, tuple[int, ...]]:
    """Inferred dims of the graph's outputs by name, -1 for free; empty where inference fails."""
    try:
        lean = _without_weights(data)
        model = onnx.ModelProto.FromString(lean)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (WireError, DecodeError, onnx.shape_inference.InferenceError, *_FAILURES):
        return {}
    found = {}
    for output in inferred.graph.output:
        tensor = output.type.tensor_type
        if tensor.HasField("shape"):
            found[output.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim
            )
    return found


def _without_weights(data: mmap.mmap) -> bytes:
    """The model with every large initializer reduced to dims, type and name."""
    parts = []
    for number, wire, start, end in fields(data, 0, len(data)):
        if number == _MODEL_GRAPH and wire == BYTES:
            parts.append(encode_bytes(number, _lean_graph(data, start, end)))
        else:
            parts.append(_copy(data, number, wire, start, end))
    return b"".join(parts)


def _lean_graph(data: mmap.mmap, start: int, end: int) -> bytes:
    parts = []
    size = 0
    for number, wire, first, last in fields(data, start, end):
        if number == _GRAPH_INITIALIZER and wire == BYTES and last - first > _CONSTANT_LIMIT:
            head = b"".join(
                _copy(data, *field)
                for field in fields(data, first, last)
                if field[0] in _TENSOR_HEAD
            )
            parts.append(encode_bytes(number, head))
        else:
            parts.append(_copy(data, number, wire, first, last))
        size += len(parts[-1])
        if size > LEAN_LIMIT:
            raise WireError("the graph is too large")
    return b"".join(parts)


def _copy(data: mmap.mmap, number: int, wire: int, start: int, end: int) -> bytes:
    if wire == VARINT:
        return encode_varint(number, start)
    if wire == BYTES:
        if end - start > LEAN_LIMIT:
            raise WireError("the graph is too large")
        return encode_bytes(number, data[start:end])
    return b""

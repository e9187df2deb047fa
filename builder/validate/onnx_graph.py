"""Inputs and outputs of an ONNX file, read past its nodes and weights.

A file of gigabytes costs what its inputs and outputs cost: the protobuf wire format is walked
over a memory map, and every field that is not wanted is jumped over.
"""

import mmap
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError
from onnx import TensorProto, ValueInfoProto

from builder.releases import NodeUse, domain_name
from builder.validate.onnx_nodes import read_uses
from builder.validate.onnx_shapes import infer_outputs
from builder.validate.onnx_wire import BYTES, VARINT, WireError, fields

_VALUE_LIMIT = 1 << 20
_MODEL_IR, _MODEL_GRAPH, _MODEL_OPSET, _MODEL_FUNCTION = 1, 7, 8, 25
_GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 5, 11, 12
_TENSOR_NAME, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 8, 13, 14


class OnnxReadError(Exception):
    """The file is no ONNX model; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class TensorSignature:
    """A tensor: `data_type` is a number of `onnx.TensorProto`, 0 for no tensor (sequence, map).

    `dims` has -1 for free dims and is None where the file states no shape.
    """

    data_type: int
    dims: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class GraphSignature:
    """What a graph takes and gives, as an ONNX Runtime session reports it.

    `overridable` are inputs with an initializer, which a request may leave out.
    """

    inputs: dict[str, TensorSignature]
    outputs: dict[str, TensorSignature]
    overridable: dict[str, TensorSignature]
    ir_version: int
    opset: int
    """Opset of the default domain; 0 if none is stated."""
    external: dict[str, int] = field(default_factory=dict)
    """Files with weights, as the model names them, and the bytes that each must have."""
    opsets: dict[str, int] = field(default_factory=dict)
    """Domain -> opset that the file imports, the default domain as `ai.onnx`."""
    uses: frozenset[NodeUse] = frozenset()
    """How its nodes use operators."""


def read_signature(path: Path) -> GraphSignature:
    """Read the inputs and outputs of an ONNX file.

    Raises `OnnxReadError` where the file is no ONNX model, `OSError` where it cannot be opened.
    """
    with path.open("rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _read_model(data)
        except WireError as error:
            raise OnnxReadError(str(error)) from None
        except ValueError:
            raise OnnxReadError("the file is empty") from None


def _read_model(data: mmap.mmap) -> GraphSignature:
    ir_version = 0
    graph: tuple[int, int] | None = None
    opsets: dict[str, int] = {}
    functions: list[tuple[int, int]] = []
    for number, wire, start, end in fields(data, 0, len(data)):
        if number == _MODEL_IR and wire == VARINT:
            ir_version = start
        elif number == _MODEL_GRAPH and wire == BYTES:
            graph = (start, end)
        elif number == _MODEL_FUNCTION and wire == BYTES:
            functions.append((start, end))
        elif number == _MODEL_OPSET and wire == BYTES:
            domain, version = _read_opset(data, start, end)
            opsets[domain_name(domain)] = max(version, opsets.get(domain_name(domain), 0))
    if graph is None:
        raise OnnxReadError("it has no graph")
    inputs, outputs, initializers, external = _read_graph(data, *graph)
    if any(tensor.dims is None or -1 in tensor.dims for tensor in outputs.values()):
        inferred = infer_outputs(data)
        outputs = {name: _merge(t, inferred.get(name)) for name, t in outputs.items()}
    # Before IR 4 every initializer is listed as an input and none can be overridden.
    overridable = {name: inputs.pop(name) for name in list(inputs) if name in initializers}
    if ir_version < 4:
        overridable = {}
    uses = frozenset(read_uses(data, graph, functions, opsets))
    opset = opsets.get("ai.onnx", 0)
    return GraphSignature(inputs, outputs, overridable, ir_version, opset, external, opsets, uses)


def _read_graph(
    data: mmap.mmap, start: int, end: int
) -> tuple[dict[str, TensorSignature], dict[str, TensorSignature], set[str], dict[str, int]]:
    """Inputs, outputs, names of initializers, and the files that hold some of them."""
    inputs: dict[str, TensorSignature] = {}
    outputs: dict[str, TensorSignature] = {}
    initializers: set[str] = set()
    external: dict[str, int] = {}
    for number, wire, first, last in fields(data, start, end):
        if wire != BYTES:
            continue
        if number in (_GRAPH_INPUT, _GRAPH_OUTPUT):
            name, tensor = _read_value(data, first, last)
            (inputs if number == _GRAPH_INPUT else outputs)[name] = tensor
        elif number == _GRAPH_INITIALIZER:
            name, location, size = _read_initializer(data, first, last)
            initializers.add(name)
            if location:
                external[location] = max(size, external.get(location, 0))
    return inputs, outputs, initializers, external


def _merge(tensor: TensorSignature, inferred: tuple[int, ...] | None) -> TensorSignature:
    """The stated dims, with what was inferred for the free ones."""
    if inferred is None or tensor.data_type == TensorProto.UNDEFINED:
        return tensor
    if tensor.dims is None:
        return TensorSignature(tensor.data_type, inferred)
    if len(tensor.dims) != len(inferred):
        return tensor
    dims = (b if a == -1 else a for a, b in zip(tensor.dims, inferred, strict=True))
    return TensorSignature(tensor.data_type, tuple(dims))


def _read_value(data: mmap.mmap, start: int, end: int) -> tuple[str, TensorSignature]:
    if end - start > _VALUE_LIMIT:
        raise OnnxReadError("the description of an input or output has more than a MiB")
    try:
        value = ValueInfoProto.FromString(data[start:end])
    except DecodeError:
        raise OnnxReadError("the description of an input or output is damaged") from None
    if not value.type.HasField("tensor_type"):
        return value.name, TensorSignature(TensorProto.UNDEFINED, None)
    tensor = value.type.tensor_type
    dims = None
    if tensor.HasField("shape"):
        dims = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
    return value.name, TensorSignature(tensor.elem_type, dims)


def _read_opset(data: mmap.mmap, start: int, end: int) -> tuple[str, int]:
    domain, version = "", 0
    for number, wire, first, last in fields(data, start, end):
        if number == 1 and wire == BYTES:
            domain = _text(data, first, last)
        elif number == 2 and wire == VARINT:
            version = first
    return domain, version


def _read_initializer(data: mmap.mmap, start: int, end: int) -> tuple[str, str, int]:
    """Name, external file ("" for none) and the bytes that the file must have at least."""
    name = ""
    is_external = False
    entries: dict[str, str] = {}
    for number, wire, first, last in fields(data, start, end):
        if number == _TENSOR_NAME and wire == BYTES:
            name = _text(data, first, last)
        elif number == _TENSOR_LOCATION and wire == VARINT:
            is_external = first == TensorProto.EXTERNAL
        elif number == _TENSOR_EXTERNAL and wire == BYTES:
            pair = {n: _text(data, f, e) for n, w, f, e in fields(data, first, last) if w == BYTES}
            entries[pair.get(1, "")] = pair.get(2, "")
    if not is_external:
        return name, "", 0
    numbers = [entries.get(key, "0") for key in ("offset", "length")]
    size = sum(int(number) for number in numbers if number.isdecimal() and len(number) < 20)
    return name, entries.get("location", ""), size


def _text(data: mmap.mmap, start: int, end: int) -> str:
    return data[start : min(end, start + 4096)].decode("utf-8", "replace")

"""How the nodes of an ONNX file use operators, read past its weights.

A node of usual size is parsed; one that holds a large constant, or a graph, is walked, so that no
tensor is read.
"""

import mmap
from collections.abc import Iterator, Mapping, Sequence

from google.protobuf.message import DecodeError
from onnx import NodeProto

from builder.releases import NodeUse, called, domain_name, nodes_of, use_of
from builder.validate.onnx_wire import (
    BYTES,
    VARINT,
    WireError,
    encode_bytes,
    encode_varint,
    fields,
)

_PARSED_BYTES = 1 << 14
_DEPTH = 32
"""Graphs in graphs that are followed; ONNX's own checker gives up at a similar depth."""
_GRAPH_NODE, _NODE_ATTRIBUTE = 1, 5
_NODE_KEPT = frozenset({1, 2, 4, 7})
"""Inputs, outputs, operator and domain."""
_ATTRIBUTE_GRAPHS = frozenset({6, 11})
_ATTRIBUTE_KEPT = frozenset({1, 3, 20})
"""Name, integer and type."""
_FUNCTION_NAME, _FUNCTION_NODE, _FUNCTION_DOMAIN = 1, 7, 10

Span = tuple[int, int]


def read_uses(
    data: mmap.mmap, graph: Span, functions: Sequence[Span], opsets: Mapping[str, int]
) -> set[NodeUse]:
    """How a model's nodes use operators.

    Args:
        data: The file.
        graph: Where its graph is.
        functions: Where its functions are.
        opsets: Domain -> opset that it imports.

    Raises:
        WireError: a node is no protobuf message.
    """
    bodies = {}
    for span in functions:
        names = {_FUNCTION_NAME: "", _FUNCTION_DOMAIN: ""}
        for number, wire, first, last in fields(data, *span):
            if number in names and wire == BYTES:
                names[number] = data[first : min(last, first + 4096)].decode("utf-8", "replace")
        nodes = _nodes(data, span, _FUNCTION_NODE, 0)
        key = (domain_name(names[_FUNCTION_DOMAIN]), names[_FUNCTION_NAME])
        bodies[key] = {use_of(node, opsets) for node in nodes}
    return called({use_of(node, opsets) for node in _nodes(data, graph, _GRAPH_NODE, 0)}, bodies)


def _nodes(data: mmap.mmap, span: Span, field: int, depth: int) -> Iterator[NodeProto]:
    """The nodes in a message's field, and those in their graphs."""
    if depth > _DEPTH:
        raise WireError(f"it has graphs in graphs, over {_DEPTH} deep")
    for number, wire, start, end in fields(data, *span):
        if number != field or wire != BYTES:
            continue
        if end - start <= _PARSED_BYTES:
            yield from nodes_of([_parse(data[start:end])])
            continue
        graphs: list[Span] = []
        yield _parse(_without_weights(data, start, end, graphs))
        for inner in graphs:
            yield from _nodes(data, inner, _GRAPH_NODE, depth + 1)


def _parse(content: bytes) -> NodeProto:
    try:
        return NodeProto.FromString(content)
    except DecodeError:
        raise WireError("a node is damaged") from None


def _without_weights(data: mmap.mmap, start: int, end: int, graphs: list[Span]) -> bytes:
    """A node without its tensors and graphs; where its graphs are is added to `graphs`."""
    kept = bytearray()
    for number, wire, first, last in fields(data, start, end):
        if wire == BYTES and number in _NODE_KEPT:
            kept += encode_bytes(number, data[first:last])
        elif wire == BYTES and number == _NODE_ATTRIBUTE:
            attribute = bytearray()
            for inner, kind, one, two in fields(data, first, last):
                if kind == VARINT and inner in _ATTRIBUTE_KEPT:
                    attribute += encode_varint(inner, one)
                elif kind == BYTES and inner in _ATTRIBUTE_KEPT:
                    attribute += encode_bytes(inner, data[one:two])
                elif kind == BYTES and inner in _ATTRIBUTE_GRAPHS:
                    graphs.append((one, two))
            kept += encode_bytes(number, bytes(attribute))
    return bytes(kept)

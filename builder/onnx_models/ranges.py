"""What values an integer input may have, as far as the nodes that read it tell."""

from collections.abc import Iterable, Mapping
from typing import Final

import onnx
from onnx import numpy_helper

from builder.onnx_models.source import nodes_of

Range = tuple[int, int]

_SAME_VALUES: Final = frozenset(
    {
        "Cast",
        "Identity",
        "Unsqueeze",
        "Squeeze",
        "Reshape",
        "Flatten",
        "Transpose",
        "Expand",
        "Slice",
        "Tile",
        "Concat",
        "Clip",
        "Abs",
    }
)
"""Ops whose output has no values that their first input (any input of Concat) has not."""

_SMALL_CONSTANT: Final = 16


def integer_ranges(model: onnx.ModelProto, names: Iterable[str]) -> dict[str, Range]:
    """Least and greatest value of inputs that the graph itself bounds.

    An input that indexes a table (Gather, OneHot, an embedding) must lie in the table; one that
    is compared with a constant (`sr == 16000`) gets that constant, which is a value it expects.

    Args:
        model: The model; weights are not read.
        names: Integer inputs.
    """
    constants = _constants(model)
    shapes = _shapes(model)
    nodes = list(nodes_of(model.graph))
    found: dict[str, Range] = {}
    for name in names:
        bounds: list[int] = []
        expected: list[int] = []
        for node, slot in _readers(nodes, name):
            bound = _table_rows(node, slot, shapes, constants)
            if bound:
                bounds.append(bound)
            if node.op_type == "Equal":
                expected += constants.get(node.input[1 - slot], [])
        if bounds:
            found[name] = (0, min(bounds) - 1)
        elif expected:
            found[name] = (expected[0], expected[0])
    return found


def _readers(nodes: list[onnx.NodeProto], name: str) -> list[tuple[onnx.NodeProto, int]]:
    """Nodes that read a value, or what has the same values, and at which input."""
    same = {name}
    grown = True
    while grown:
        grown = False
        for node in nodes:
            read = node.input if node.op_type == "Concat" else node.input[:1]
            if node.op_type in _SAME_VALUES and same.intersection(read):
                new = set(node.output) - same
                same |= new
                grown = grown or bool(new)
    return [
        (node, slot)
        for node in nodes
        if node.op_type not in _SAME_VALUES
        for slot, read in enumerate(node.input)
        if read in same
    ]


def _table_rows(
    node: onnx.NodeProto,
    slot: int,
    shapes: Mapping[str, list[int]],
    constants: Mapping[str, list[int]],
) -> int | None:
    if node.op_type == "Gather" and slot == 1:
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        shape = shapes.get(node.input[0])
        return shape[axis] if shape and -len(shape) <= axis < len(shape) else None
    if node.op_type == "OneHot" and slot == 0:
        return next(iter(constants.get(node.input[1], [])), None)
    if node.op_type == "EmbedLayerNormalization" and slot in (0, 1):
        shape = shapes.get(node.input[2 if slot == 0 else 4])
        return shape[0] if shape else None
    return None


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    found = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    for node in nodes_of(model.graph):
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    found[node.output[0]] = list(attribute.t.dims)
        if node.op_type in ("DequantizeLinear", "Identity", "Cast") and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _constants(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Small integer constants by name."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in nodes_of(model.graph):
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    tensors[node.output[0]] = attribute.t
    found = {}
    for name, tensor in tensors.items():
        size = 1
        for dim in tensor.dims:
            size *= dim
        local = tensor.data_location != onnx.TensorProto.EXTERNAL
        if local and 0 < size <= _SMALL_CONSTANT and tensor.data_type in (6, 7):
            found[name] = [int(value) for value in numpy_helper.to_array(tensor).reshape(-1)]
    for node in nodes_of(model.graph):
        if node.op_type in ("Cast", "Identity", "Unsqueeze", "Squeeze") and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found

"""Editing a graph in place: nodes, constants, and files of any size.

Weights are lazy: they are read from the source file, converted and written one at a time, so the
peak is a few tensors and not a few models.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from builder.export.onnx_file import INLINE_BYTES

CONTRIB = "com.microsoft"
"""https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md"""


def constant(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """A small constant of a graph; the same name gives the same value."""
    return lazy_constant(
        graph, name, ir.DataType.from_numpy(array.dtype), array.shape, lambda: array
    )


def lazy_constant(
    graph: ir.Graph,
    name: str,
    dtype: ir.DataType,
    shape: Sequence[int],
    make: Callable[[], NDArray[Any]],
) -> ir.Value:
    """A constant that is computed when the file is written.

    Args:
        graph: The graph.
        name: Its name; one that is there already is given back.
        dtype: Its type.
        shape: Its shape.
        make: Computes it.
    """
    if name in graph.initializers:
        return graph.initializers[name]
    dims = ir.Shape(shape)
    value = ir.Value(
        name=name,
        shape=dims,
        type=ir.TensorType(dtype),
        const_value=ir.LazyTensor(
            lambda: ir.tensor(np.ascontiguousarray(make()), dtype=dtype, name=name),
            dtype=dtype,
            shape=dims,
            name=name,
        ),
    )
    graph.register_initializer(value)
    return value


def insert(
    before: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    *,
    domain: str = "",
    attributes: Mapping[str, Any] | None = None,
) -> ir.Value:
    """Put a node before another and give its output back."""
    node = ir.node(op_type, inputs, domain=domain, attributes=dict(attributes or {}))
    assert before.graph is not None
    before.graph.insert_before(before, node)
    return node.outputs[0]


def replace(node: ir.Node, output: ir.Value) -> None:
    """Let every reader of a node's first output, graph outputs included, read another value."""
    old = node.outputs[0]
    output.shape, output.type = old.shape, old.type
    if old.is_graph_output():
        name, old.name = old.name, f"{old.name}_replaced"
        output.name = name
    old.replace_all_uses_with(output, replace_graph_outputs=True)
    assert node.graph is not None
    node.graph.remove(node, safe=True)


def load(path: Path) -> ir.Model:
    """Read a graph; weights in a file beside it stay there until they are asked for."""
    return ir.load(str(path))


def size(model: ir.Model) -> int:
    """Bytes of the weights."""
    tensors = (value.const_value for value in model.graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def read_weights(model: ir.Model) -> None:
    """Bring weights that stand in a file beside into memory."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            array = np.array(tensor.numpy())
            value.const_value = ir.tensor(array, dtype=tensor.dtype, name=tensor.name)


def save(model: ir.Model, path: Path) -> None:
    """Write a graph; weights of more than a gigabyte go to `<path>.data`.

    Args:
        model: The graph; what nobody reads any more is dropped.
        path: Another file than the one that the graph came from.
    """
    common.RemoveUnusedNodesPass()(model)
    common.RemoveUnusedOpsetsPass()(model)
    if any(node.domain == CONTRIB for node in model.graph.all_nodes()):
        model.opset_imports[CONTRIB] = 1
    data = f"{path.name}.data" if size(model) > INLINE_BYTES else None
    if data is None:
        read_weights(model)
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)
    ir.save(model, str(path), external_data=data)

"""16-bit floats: a half-size file, or a graph that computes in half precision."""

import logging
from typing import Any, Final, Literal

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from builder.optimize.rewrite import insert, lazy_constant, read_weights

_TYPES: Final = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
_SMALL: Final = 1024
"""Constants of fewer values stay in fp32: they save nothing."""


def store_as(model: ir.Model, precision: Literal["fp16", "bf16"]) -> None:
    """Keep the weights in 16 bits and widen them when the file is loaded; fp32 computes.

    ONNX Runtime folds the casts at load (its basic optimizations), so a run costs what it costs in
    fp32. Its CPU kernels of products know no 16-bit floats.

    Args:
        model: Changed in place; inputs and outputs stay fp32.
        precision: How weights are kept; fp16 clips at 65,504.
    """
    dtype = _TYPES[precision]
    graph = model.graph
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size < _SMALL:
            continue
        users = list(value.uses())
        if not users or any(user.node.graph is not graph for user in users):
            continue

        def narrow(tensor: Any = tensor) -> NDArray[Any]:
            limit = float(np.finfo(np.float16).max) if precision == "fp16" else np.inf
            array: NDArray[Any] = np.clip(tensor.numpy(), -limit, limit).astype(dtype.numpy())
            return array

        narrowed = lazy_constant(graph, f"{name}_{precision}", dtype, tensor.shape.numpy(), narrow)
        nodes = {user.node for user in users}
        first = next(node for node in graph if node in nodes)
        wide = insert(first, "Cast", [narrowed], attributes={"to": ir.DataType.FLOAT.value})
        wide.shape, wide.type = value.shape, ir.TensorType(ir.DataType.FLOAT)
        value.replace_all_uses_with(wide)
        del graph.initializers[name]


def compute_in_fp16(model: ir.Model) -> ir.Model:
    """Convert a graph to fp16 with ONNX Runtime's own converter; inputs and outputs stay fp32.

    Args:
        model: The graph; read whole into memory.

    Returns:
        The converted graph.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415

    logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.ERROR)
    read_weights(model)
    proto: onnx.ModelProto = ir.to_proto(model)
    proto = convert_float_to_float16(proto, keep_io_types=True, disable_shape_infer=True)
    converted: ir.Model = ir.from_proto(proto)
    return converted

"""8- and 4-bit integers in place of the products' fp32.

Weights are symmetric: a scale for each output (int8) or for each block of inputs (int4).
Activations are uint8 with a zero point, found at each run (dynamic) or by calibration (static).
u8 x s8 is what VNNI and AMX multiply; processors without them sum two products in 16 bits, where
they saturate, so a file could answer differently where it is served. The scales here leave no pair
of weights whose products with 255 do not fit, which takes less precision than 7-bit weights do:
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
(u8 x u8 fits everywhere too, but ONNX Runtime before 1.25 multiplies it wrongly on processors with
AMX or AVX-VNNI: https://github.com/microsoft/onnxruntime/pull/27671)
DynamicQuantizeMatMul and 4-bit MatMulNBits are the same in ONNX Runtime 1.19 and later:
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

import functools
from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from builder.errors import ExportError
from builder.export.weights import INT8_ACCUMULATION, nbits_quantizer
from builder.optimize.products import Product, products
from builder.optimize.rewrite import CONTRIB, constant, insert, lazy_constant, replace

Range = tuple[float, float]
"""Smallest and largest value of an activation."""


_TOGETHER: Final = 4
"""Inputs in a row that kernels multiply together; those without VNNI sum them by twos."""

_PAIR: Final = 127.99
"""Most that two weights of one sign may sum to before they are rounded: 128 x 255 fits 16 bits."""


def _most(reduce_range: bool) -> int:
    return 63 if reduce_range else 127


def _largest_pairs(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """[out]: largest sum of two weights of one sign that a kernel may sum, of [in, out]."""
    padded = np.pad(matrix, ((0, -len(matrix) % _TOGETHER), (0, 0)))
    groups = np.sort(padded.reshape(-1, _TOGETHER, matrix.shape[1]), axis=1)
    # Where the smaller of two is of the other sign, it lowers the sum: the single bound holds.
    above = groups[:, -1] + np.maximum(groups[:, -2], 0)
    below = groups[:, 0] + np.minimum(groups[:, 1], 0)
    pairs: NDArray[np.float32] = np.maximum(above.max(axis=0), -below.min(axis=0))
    return pairs


def _column_scales(product: Product, most: int) -> NDArray[np.float32]:
    """[out]: the scales whose largest weight is `most` at most, and no pair saturates."""
    matrix = product.matrix()
    largest = np.maximum(np.abs(matrix).max(axis=0) / most, _largest_pairs(matrix) / _PAIR)
    return np.where(largest > 0, largest, 1.0).astype(np.float32)


def _int8_weights(graph: ir.Graph, product: Product, most: int) -> tuple[ir.Value, ir.Value]:
    """int8 [in, out] and fp32 [out] in place of a product's weights."""
    suffix = "_t" if product.transposed else ""
    scales = _column_scales(product, most)

    def rounded() -> NDArray[np.int8]:
        whole: NDArray[np.float32] = np.rint(product.matrix() / scales)
        return whole.clip(-most, most).astype(np.int8)

    name = f"{product.weight.name}{suffix}"
    weights = lazy_constant(graph, f"{name}_int8", ir.DataType.INT8, product.shape, rounded)
    return weights, constant(graph, f"{name}_scale", scales)


def _bias(product: Product) -> tuple[ir.Value | None, ir.Node]:
    """A constant [out] that is added to a product, and the node that ends with it."""
    output = product.node.outputs[0]
    uses = list(output.uses())
    if product.bias is not None or len(uses) != 1 or output.is_graph_output():
        return product.bias, product.node
    node, place = uses[0].node, uses[0].idx
    other = node.inputs[1 - place] if node.op_type == "Add" and not node.domain else None
    tensor = other.const_value if other is not None else None
    if tensor is None or list(tensor.shape) != [product.shape[1]]:
        return None, product.node
    return other, node


def _replace_product(product: Product, last: ir.Node, output: ir.Value) -> None:
    replace(last, output)
    if last is not product.node:
        assert product.node.graph is not None
        product.node.graph.remove(product.node, safe=True)


def _chosen(model: ir.Model, keep: Collection[int] = ()) -> list[Product]:
    found = [product for place, product in enumerate(products(model)) if place not in keep]
    if not found:
        raise ExportError("no matrix product with constant weights, so nothing to quantize")
    return found


def quantize_dynamic(
    model: ir.Model, *, keep: Collection[int] = (), reduce_range: bool = False
) -> None:
    """Products in int8, the range of each activation found at each run.

    Args:
        model: Changed in place.
        keep: Places of products in `products(model)` that stay in fp32.
        reduce_range: Weights of 7 bits.

    Raises:
        ExportError: there is nothing to quantize.
    """
    for product in _chosen(model, keep):
        weights, scales = _int8_weights(model.graph, product, _most(reduce_range))
        bias, last = _bias(product)
        output = insert(
            product.node,
            "DynamicQuantizeMatMul",
            [product.x, weights, scales, None, bias],
            domain=CONTRIB,
        )
        _replace_product(product, last, output)


def activation_parameters(bounds: Range) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scale and zero point of uint8 that hold a range and, exactly, zero."""
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    scale = (high - low) / 255 or 1.0
    zero = round(-low / scale)
    return np.array(scale, np.float32), np.array(min(max(zero, 0), 255), np.uint8)


def quantize_static(
    model: ir.Model,
    ranges: Mapping[str, Range],
    *,
    keep: Collection[int] = (),
    reduce_range: bool = False,
) -> None:
    """Products in int8 by QuantizeLinear and DequantizeLinear, activations by known ranges.

    Args:
        model: Changed in place.
        ranges: Name of the activation that a product reads -> its range.
        keep: Places of products in `products(model)` that stay in fp32.
        reduce_range: Weights of 7 bits.

    Raises:
        ExportError: there is nothing to quantize.
    """
    graph = model.graph
    rounded: dict[ir.Value, ir.Value] = {}
    for product in _chosen(model, keep):
        x = product.x
        if x not in rounded:
            scale, zero = activation_parameters(ranges[str(x.name)])
            pair = [
                constant(graph, f"{x.name}_scale", scale),
                constant(graph, f"{x.name}_zero", zero),
            ]
            bytes_ = insert(product.node, "QuantizeLinear", [x, *pair])
            rounded[x] = insert(product.node, "DequantizeLinear", [bytes_, *pair])
        weights, scales = _int8_weights(graph, product, _most(reduce_range))
        zeros = constant(graph, f"zeros_{product.shape[1]}", np.zeros(product.shape[1], np.int8))
        weights = insert(
            product.node, "DequantizeLinear", [weights, scales, zeros], attributes={"axis": 1}
        )
        output = insert(product.node, "MatMul", [rounded[x], weights])
        if product.bias is not None:
            output = insert(product.node, "Add", [output, product.bias])
        replace(product.node, output)


@functools.cache
def _blocks_of(block_size: int) -> Any:
    """ONNX Runtime's own block-wise quantizer of one matrix."""
    nbits = nbits_quantizer()
    config = nbits.DefaultWeightOnlyQuantConfig(
        block_size=block_size, is_symmetric=True, accuracy_level=INT8_ACCUMULATION, bits=4
    )
    return nbits.DefaultWeightOnlyQuantizer(config)


def quantize_blocks(model: ir.Model, *, block_size: int = 32) -> None:
    """Weights in blocks of 4-bit integers (`MatMulNBits`), activations as they are.

    Args:
        model: Changed in place.
        block_size: Values to a scale.

    Raises:
        ExportError: there is nothing to quantize.
    """
    graph, quantizer = model.graph, _blocks_of(block_size)
    for product in _chosen(model):
        rows, columns = product.shape
        blocks = -(-rows // block_size)

        def packed(product: Product = product) -> NDArray[Any]:
            result: NDArray[Any] = quantizer.qbits_block_quant(
                np.ascontiguousarray(product.matrix())
            )[0]
            return result

        def block_scales(product: Product = product) -> NDArray[Any]:
            result: NDArray[Any] = quantizer.qbits_block_quant(
                np.ascontiguousarray(product.matrix())
            )[1]
            return result.reshape(-1)

        name = f"{product.weight.name}{'_t' if product.transposed else ''}_int4"
        weights = lazy_constant(
            graph, name, ir.DataType.UINT8, (columns, blocks, block_size // 2), packed
        )
        scales = lazy_constant(
            graph,
            f"{name}_scales",
            ir.DataType.FLOAT,
            (columns * blocks,),
            block_scales,
        )
        output = insert(
            product.node,
            "MatMulNBits",
            [product.x, weights, scales],
            domain=CONTRIB,
            attributes={
                "K": rows,
                "N": columns,
                "bits": 4,
                "block_size": block_size,
                "accuracy_level": INT8_ACCUMULATION,
            },
        )
        if product.bias is not None:
            output = insert(product.node, "Add", [output, product.bias])
        replace(product.node, output)

"""Matrix products with constant weights: where a transformer's size and arithmetic are."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

_KINDS: Final = {("", "MatMul"), ("", "Gemm"), ("com.microsoft", "FusedMatMul")}


@dataclass(frozen=True)
class Product:
    """`x @ weight (+ bias)` in a graph.

    Attributes:
        node: The `MatMul`, `Gemm` or `com.microsoft.FusedMatMul`.
        x: What is multiplied: [..., in].
        weight: A constant: [in, out], or [out, in] where `transposed`.
        transposed: Whether `weight` stands the other way round.
        bias: What a `Gemm` adds, [out]; None elsewhere.
    """

    node: ir.Node
    x: ir.Value
    weight: ir.Value
    transposed: bool
    bias: ir.Value | None

    @property
    def shape(self) -> tuple[int, int]:
        """(in, out)."""
        assert self.weight.const_value is not None
        rows, columns = self.weight.const_value.shape.numpy()
        return (columns, rows) if self.transposed else (rows, columns)

    def matrix(self) -> NDArray[np.float32]:
        """The weights as [in, out]; read anew at each call, nothing is kept."""
        assert self.weight.const_value is not None
        matrix: NDArray[Any] = self.weight.const_value.numpy()
        return matrix.T if self.transposed else matrix


def _constant(value: ir.Value | None) -> ir.Value | None:
    """The value, where it is an fp32 matrix that the file holds."""
    tensor = value.const_value if value is not None else None
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) != 2:
        return None
    return value


def _weight(value: ir.Value | None) -> tuple[ir.Value | None, bool]:
    """The constant behind a value, through a `Transpose` (tied embeddings), and whether it was."""
    producer = value.producer() if value is not None else None
    if producer is None or producer.op_type != "Transpose":
        return _constant(value), False
    if list(producer.attributes.get_ints("perm", [1, 0])) != [1, 0]:
        return None, False
    return _constant(producer.inputs[0]), True


def _product(node: ir.Node) -> Product | None:
    if (node.domain, node.op_type) not in _KINDS:
        return None
    x, (weight, transposed) = node.inputs[0], _weight(node.inputs[1])
    if x is None or weight is None or x.const_value is not None:
        return None
    if node.op_type == "MatMul":
        return Product(node, x, weight, transposed, None)
    attributes = node.attributes
    if (
        attributes.get_float("alpha", 1.0) != 1.0
        or attributes.get_int("transA", 0) != 0
        or attributes.get_int("transBatchA", 0) != 0
        or attributes.get_int("transBatchB", 0) != 0
    ):
        return None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and (
        attributes.get_float("beta", 1.0) != 1.0
        or bias.const_value is None
        or len(bias.const_value.shape) != 1
    ):
        return None
    transposed ^= attributes.get_int("transB", 0) != 0
    return Product(node, x, weight, transposed, bias)


def products(model: ir.Model) -> list[Product]:
    """The products of a graph, in its order; those inside subgraphs are left out."""
    found = (_product(node) for node in model.graph)
    return [product for product in found if product is not None]

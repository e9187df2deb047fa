"""Operators of the vision and relevance graphs: eager for torch, one node once exported.

Semantics: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
(MultiHeadAttention, FastGelu) and https://onnx.ai/onnx/operators/onnx__MatMulInteger.html.
They are the same in ONNX Runtime 1.19 and later.
"""

from typing import Any

import onnx
import torch
from onnxscript import opset18
from torch.nn import functional as F

from builder.contrib.operators import Translations, contrib_opset, register_schema


@torch.library.custom_op("arr_coc::sum_bytes", mutates_args=())
def sum_bytes(ones: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Sum bytes down the middle dim without widening them first.

    A product with ones: ONNX's ReduceSum does not take bytes, and widening them costs several
    times the sum.

    Args:
        ones: uint8 [1, R], all 1.
        x: uint8 [G, R, W].

    Returns:
        int32 [G, 1, W].
    """
    del ones
    return x.sum(dim=1, keepdim=True, dtype=torch.int32)


@sum_bytes.register_fake
def _(ones: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return x.new_empty((x.shape[0], 1, x.shape[2]), dtype=torch.int32)


@torch.library.custom_op("arr_coc::multi_head_attention", mutates_args=())
def multi_head_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, num_heads: int
) -> torch.Tensor:
    """Every place attends to every place of its own row: softmax(q k^T / sqrt(d)) v.

    Args:
        query: [B, S, num_heads * d].
        key: [B, S, num_heads * d].
        value: [B, S, num_heads * d].
        num_heads: Heads.

    Returns:
        [B, S, num_heads * d].
    """
    batch, length, width = query.shape
    query, key, value = (
        x.reshape(batch, length, num_heads, -1).transpose(1, 2) for x in (query, key, value)
    )
    mixed = F.scaled_dot_product_attention(query, key, value)
    return mixed.transpose(1, 2).reshape(batch, length, width)


@multi_head_attention.register_fake
def _(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, num_heads: int) -> torch.Tensor:
    return torch.empty_like(query)


@torch.library.custom_op("arr_coc::fast_gelu", mutates_args=())
def fast_gelu(x: torch.Tensor) -> torch.Tensor:
    """GELU by its tanh approximation, elementwise."""
    return F.gelu(x, approximate="tanh")


@fast_gelu.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def translation_table() -> Translations:
    """How the operators become ONNX, for `torch.onnx.export(custom_translation_table=...)`."""
    register_schema(
        "MultiHeadAttention",
        (("query", "T"), ("key", "T"), ("value", "T")),
        (("output", "T"),),
        {"num_heads": onnx.defs.OpSchema.AttrType.INT},
    )
    register_schema("FastGelu", (("X", "T"),), (("Y", "T"),), {})
    contrib = contrib_opset()

    def bytes_sum(ones: Any, x: Any) -> Any:
        return opset18.MatMulInteger(ones, x)

    def attention(query: Any, key: Any, value: Any, num_heads: int) -> Any:
        return contrib.MultiHeadAttention(query, key, value, num_heads=num_heads)

    def gelu(x: Any) -> Any:
        return contrib.FastGelu(x)

    operators = torch.ops.arr_coc
    return {
        operators.sum_bytes.default: bytes_sum,
        operators.multi_head_attention.default: attention,
        operators.fast_gelu.default: gelu,
    }

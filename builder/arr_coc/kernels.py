"""Operators of ONNX Runtime that torch does not know: eager for torch, one node once exported.

Semantics: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
(MultiHeadAttention, RotaryEmbedding, FastGelu) and https://onnx.ai/onnx/operators/onnx__MatMulInteger.html.
They are the same in ONNX Runtime 1.19 and later.
"""

from collections.abc import Callable
from typing import Any, Final

import onnx
import onnxscript
import torch
from onnxscript import opset18
from torch.nn import functional as F

_DOMAIN: Final = "com.microsoft"


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


@torch.library.custom_op("arr_coc::rotate_heads", mutates_args=())
def rotate_heads(
    x: torch.Tensor, places: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    """Rotary embedding that turns the halves of each head against each other.

    Args:
        x: [B, S, heads * d].
        places: int64 [B, S], rows of the tables.
        cos: [M, d / 2].
        sin: [M, d / 2].

    Returns:
        [B, S, heads * d].
    """
    cosine, sine = (table[places].unsqueeze(-2) for table in (cos, sin))
    first, second = x.reshape(*x.shape[:2], -1, 2 * cos.shape[-1]).chunk(2, dim=-1)
    turned = (first * cosine - second * sine, second * cosine + first * sine)
    return torch.cat(turned, dim=-1).reshape(x.shape)


@rotate_heads.register_fake
def _(x: torch.Tensor, places: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("arr_coc::fast_gelu", mutates_args=())
def fast_gelu(x: torch.Tensor) -> torch.Tensor:
    """GELU by its tanh approximation, elementwise."""
    return F.gelu(x, approximate="tanh")


@fast_gelu.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def _register_schema(
    name: str, inputs: dict[str, str], types: dict[str, list[str]], ints: tuple[str, ...]
) -> None:
    """Tell onnx a contrib operator's signature (as far as it is used); the exporter needs it."""
    if onnx.defs.has(name, _DOMAIN):
        return
    schema = onnx.defs.OpSchema
    parameter = schema.FormalParameter
    onnx.defs.register_schema(
        schema(
            name,
            _DOMAIN,
            1,
            inputs=[parameter(key, kind) for key, kind in inputs.items()],
            outputs=[parameter("output", "T")],
            type_constraints=[(kind, names, kind) for kind, names in types.items()],
            attributes=[schema.Attribute(key, schema.AttrType.INT, required=True) for key in ints],
        )
    )


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """How the operators become ONNX, for `torch.onnx.export(custom_translation_table=...)`."""
    floats = ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"]
    _register_schema(
        "MultiHeadAttention",
        {"query": "T", "key": "T", "value": "T"},
        {"T": floats},
        ("num_heads",),
    )
    _register_schema(
        "RotaryEmbedding",
        {"input": "T", "position_ids": "M", "cos_cache": "T", "sin_cache": "T"},
        {"T": floats, "M": ["tensor(int64)"]},
        ("interleaved",),
    )
    _register_schema("FastGelu", {"X": "T"}, {"T": floats}, ())
    contrib = onnxscript.values.Opset(_DOMAIN, 1)

    def bytes_sum(ones: Any, x: Any) -> Any:
        return opset18.MatMulInteger(ones, x)

    def attention(query: Any, key: Any, value: Any, num_heads: int) -> Any:
        return contrib.MultiHeadAttention(query, key, value, num_heads=num_heads)

    def rotary(x: Any, places: Any, cos: Any, sin: Any) -> Any:
        return contrib.RotaryEmbedding(x, places, cos, sin, interleaved=0)

    def gelu(x: Any) -> Any:
        return contrib.FastGelu(x)

    operators = torch.ops.arr_coc
    return {
        operators.sum_bytes.default: bytes_sum,
        operators.multi_head_attention.default: attention,
        operators.rotate_heads.default: rotary,
        operators.fast_gelu.default: gelu,
    }

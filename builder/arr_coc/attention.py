"""Grouped-query attention over a preallocated cache: eager for torch, fused for ONNX Runtime.

The torch operator `arr_coc::group_query_attention` exports as ONNX Runtime's
`com.microsoft::GroupQueryAttention`, whose semantics it follows:
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.GroupQueryAttention
"""

from collections.abc import Callable
from typing import Any, Final

import onnx
import onnxscript
import torch
from torch.nn import functional as F

_DOMAIN: Final = "com.microsoft"
_OPERATOR: Final = "GroupQueryAttention"


@torch.library.custom_op("arr_coc::group_query_attention", mutates_args=())
def group_query_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    past_key: torch.Tensor,
    past_value: torch.Tensor,
    seqlens_k: torch.Tensor,
    total_length: torch.Tensor,
    num_heads: int,
    kv_num_heads: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Append keys and values to the cache and attend causally to all of it.

    Args:
        query: [B, S, num_heads * d], rotated.
        key: [B, S, kv_num_heads * d], rotated.
        value: [B, S, kv_num_heads * d].
        past_key: [B, kv_num_heads, M, d].
        past_value: [B, kv_num_heads, M, d].
        seqlens_k: int32 [B], valid places after this step, minus 1.
        total_length: int32 [], the largest number of valid places.
        num_heads: Query heads.
        kv_num_heads: Key and value heads.

    Returns:
        Output [B, S, num_heads * d] and the two caches with the new tokens in place.
    """
    del total_length  # sizes the fused kernel's work; the lengths are in seqlens_k
    batch, length, width = query.shape
    heads = query.reshape(batch, length, num_heads, -1).transpose(1, 2)
    places = torch.arange(length) + (seqlens_k.long() + 1 - length).unsqueeze(-1)
    caches = []
    for past, new in ((past_key, key), (past_value, value)):
        cache = past.clone()
        rows = new.reshape(batch, length, kv_num_heads, -1)
        cache[torch.arange(batch)[:, None], :, places] = rows
        caches.append(cache)
    mask = torch.arange(past_key.shape[2]) <= places.unsqueeze(-1)
    mixed = F.scaled_dot_product_attention(
        heads, caches[0], caches[1], attn_mask=mask.unsqueeze(1), enable_gqa=True
    )
    return mixed.transpose(1, 2).reshape(batch, length, width), caches[0], caches[1]


@group_query_attention.register_fake
def _fake(query: torch.Tensor, *tensors: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    past_key, past_value = tensors[2], tensors[3]
    return torch.empty_like(query), torch.empty_like(past_key), torch.empty_like(past_value)


def _register_schema() -> None:
    """Tell onnx the operator's signature (as far as it is used); the exporter needs it."""
    if onnx.defs.has(_OPERATOR, _DOMAIN):
        return
    schema, parameter = onnx.defs.OpSchema, onnx.defs.OpSchema.FormalParameter
    inputs = ("query", "key", "value", "past_key", "past_value")
    lengths = ("seqlens_k", "total_sequence_length")
    outputs = ("output", "present_key", "present_value")
    onnx.defs.register_schema(
        schema(
            _OPERATOR,
            _DOMAIN,
            1,
            inputs=[
                *(parameter(name, "T") for name in inputs),
                *(parameter(name, "M") for name in lengths),
            ],
            outputs=[parameter(name, "T") for name in outputs],
            type_constraints=[
                ("T", ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"], "values"),
                ("M", ["tensor(int32)"], "lengths"),
            ],
            attributes=[
                schema.Attribute(name, schema.AttrType.INT, required=True)
                for name in ("num_heads", "kv_num_heads", "do_rotary")
            ],
        )
    )


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """How the operator becomes ONNX, for `torch.onnx.export(custom_translation_table=...)`."""
    _register_schema()
    contrib = onnxscript.values.Opset(_DOMAIN, 1)

    def translate(
        query: Any,
        key: Any,
        value: Any,
        past_key: Any,
        past_value: Any,
        seqlens_k: Any,
        total_length: Any,
        num_heads: int,
        kv_num_heads: int,
    ) -> Any:
        return contrib.GroupQueryAttention(
            query,
            key,
            value,
            past_key,
            past_value,
            seqlens_k,
            total_length,
            num_heads=num_heads,
            kv_num_heads=kv_num_heads,
            do_rotary=0,
        )

    return {torch.ops.arr_coc.group_query_attention.default: translate}

"""Grouped-query attention over a preallocated cache: eager for torch, fused for ONNX Runtime.

The torch operator `arr_coc::group_query_attention` exports as ONNX Runtime's
`com.microsoft::GroupQueryAttention`, whose semantics it follows:
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.GroupQueryAttention
"""

from typing import Any

import onnx
import torch
from torch.nn import functional as F

from builder.contrib.operators import Translations, contrib_opset, register_schema, translations


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


def translation_table() -> Translations:
    """How the fused operators become ONNX, for `torch.onnx.export`."""
    shared = ("past_key", "T"), ("past_value", "T")
    lengths = ("seqlens_k", "M"), ("total_sequence_length", "M")
    register_schema(
        "GroupQueryAttention",
        (("query", "T"), ("key", "T"), ("value", "T"), *shared, *lengths),
        (("output", "T"), ("present_key", "T"), ("present_value", "T")),
        dict.fromkeys(("num_heads", "kv_num_heads", "do_rotary"), onnx.defs.OpSchema.AttrType.INT),
    )
    contrib = contrib_opset()

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

    return {torch.ops.arr_coc.group_query_attention.default: translate, **translations()}

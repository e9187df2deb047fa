"""The language model as one step over a preallocated KV cache, as it is exported.

Attention runs over buffers that past and present share once exported: nothing grows or is copied
from step to step, and grouped keys and values are never expanded.
"""

from typing import Any

import torch
from torch import nn

from builder.arr_coc.attention import group_query_attention


class Decoder(nn.Module):
    """Qwen2-VL's text model and head: ids or visual embeddings in, next-token logits out."""

    def __init__(self, text_model: Any, head: Any) -> None:
        """Wrap a `Qwen2VLTextModel` and the `lm_head` linear layer."""
        super().__init__()
        config = text_model.config
        self.text_model = text_model
        self.head = head
        self.num_heads = int(config.num_attention_heads)
        self.num_kv_heads = int(config.num_key_value_heads)
        self.head_dim = int(
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        self.sections = [int(s) for s in text_model.rotary_emb.mrope_section]

    @property
    def num_layers(self) -> int:
        """Number of decoder layers, each with one key and one value buffer."""
        return len(self.text_model.layers)

    def _rotary(self, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine [B, S, 1, d] of M-RoPE positions [B, 3, S]."""
        rotary = self.text_model.rotary_emb
        angles = position_ids.transpose(0, 1).unsqueeze(-1).float() * rotary.inv_freq.float()
        parts = angles.split(self.sections, dim=-1)
        mixed = torch.cat([part[i % 3] for i, part in enumerate(parts)], dim=-1)
        doubled = torch.cat((mixed, mixed), dim=-1).unsqueeze(2)
        scale = rotary.attention_scaling
        return doubled.cos() * scale, doubled.sin() * scale

    def _rotate(
        self, x: torch.Tensor, heads: int, cos: torch.Tensor, sin: torch.Tensor
    ) -> torch.Tensor:
        """Rotate [B, S, heads * d]."""
        batch, length, width = x.shape
        x = x.reshape(batch, length, heads, self.head_dim)
        half = self.head_dim // 2
        rotated = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
        return (x * cos + rotated * sin).reshape(batch, length, width)

    def _attend(
        self,
        layer: Any,
        x: torch.Tensor,
        rotary: tuple[torch.Tensor, torch.Tensor],
        past: tuple[torch.Tensor, torch.Tensor],
        lengths: tuple[torch.Tensor, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        attention = layer.self_attn
        query = self._rotate(attention.q_proj(x), self.num_heads, *rotary)
        key = self._rotate(attention.k_proj(x), self.num_kv_heads, *rotary)
        value = attention.v_proj(x)
        mixed, present_key, present_value = group_query_attention(
            query, key, value, *past, *lengths, self.num_heads, self.num_kv_heads
        )
        return attention.o_proj(mixed), present_key, present_value

    def forward(
        self,
        input_ids: torch.Tensor,
        visual_embeds: torch.Tensor,
        visual_mask: torch.Tensor,
        position_ids: torch.Tensor,
        last_index: torch.Tensor,
        seqlens_k: torch.Tensor,
        total_length: torch.Tensor,
        past: list[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        """One prefill or decode step.

        Args:
            input_ids: int64 [B, S].
            visual_embeds: [B, S, D], read where the mask is true.
            visual_mask: bool [B, S], true at visual tokens.
            position_ids: int64 [B, 3, S], M-RoPE positions (time, row, column).
            last_index: int64 [B], the place in S whose logits are wanted.
            seqlens_k: int32 [B], tokens in the cache after this step, minus 1.
            total_length: int32 [], the largest of them, not minus 1.
            past: Key and value buffer of each layer in turn, [B, kv heads, M, d] each.

        Returns:
            Logits fp32 [B, V], then the key and value buffers of each layer.
        """
        embeds = self.text_model.embed_tokens(input_ids)
        x = torch.where(visual_mask.unsqueeze(-1), visual_embeds.to(embeds.dtype), embeds)
        rotary = self._rotary(position_ids)
        rotary = (rotary[0].to(x.dtype), rotary[1].to(x.dtype))
        present: list[torch.Tensor] = []
        for i, layer in enumerate(self.text_model.layers):
            mixed, key, value = self._attend(
                layer,
                layer.input_layernorm(x),
                rotary,
                (past[2 * i], past[2 * i + 1]),
                (seqlens_k, total_length),
            )
            x = x + mixed
            x = x + layer.mlp(layer.post_attention_layernorm(x))
            present += (key, value)
        # Not take_along_dim: it fixes the batch size on export.
        last = x.gather(1, last_index.reshape(-1, 1, 1).expand(-1, 1, x.shape[-1])).squeeze(1)
        return (self.head(self.text_model.norm(last)).float(), *present)

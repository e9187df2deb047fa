"""The language model as one step over a preallocated KV cache, with visual tokens mixed in."""

from typing import Any

import torch

from builder.decoders.rotary import RotaryDecoder


def _mrope_axes(text_model: Any) -> list[int]:
    """Which position (0: time, 1: row, 2: column) turns each of the d / 2 angles.

    Qwen2-VL has them in sections; Qwen3-VL interleaves rows and columns with time.
    """
    sections = [int(s) for s in text_model.rotary_emb.mrope_section]
    if not text_model.config.model_type.startswith("qwen3_vl"):
        return [i % 3 for i, size in enumerate(sections) for _ in range(size)]
    axes = [0] * sum(sections)
    for axis in (1, 2):
        places = range(axis, sections[axis] * 3, 3)
        for place in places:
            axes[place] = axis
    return axes


class Decoder(RotaryDecoder):
    """Qwen2-VL's or Qwen3-VL's text model: ids or visual embeddings in, next-token logits out."""

    axes: torch.Tensor

    def __init__(
        self, text_model: Any, head: Any, *, tied: bool, deepstack_layers: int = 0
    ) -> None:
        """Wrap a `Qwen2VLTextModel` or `Qwen3VLTextModel` and the head; weights are repacked.

        Args:
            text_model: The text model.
            head: The head, without a bias.
            tied: Multiply by the embedding itself (one copy in the file), not by a packed head.
            deepstack_layers: First layers behind which a DeepStack feature is added.
        """
        super().__init__(text_model, head, tied=tied)
        self.deepstack_layers = deepstack_layers
        self.register_buffer("axes", torch.tensor(_mrope_axes(text_model)), persistent=False)

    def _rotary_tables(self, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine [B * S, d / 2] of M-RoPE positions [B, 3, S], a row a token."""
        positions = position_ids[:, self.axes].transpose(1, 2).float()
        mixed = (positions * self.rotary.inv_freq.float()).reshape(-1, self.head_dim // 2)
        scale = self.rotary.attention_scaling
        return mixed.cos() * scale, mixed.sin() * scale

    def forward(
        self,
        input_ids: torch.Tensor,
        visual_embeds: torch.Tensor,
        visual_mask: torch.Tensor,
        position_ids: torch.Tensor,
        logits_index: torch.Tensor,
        seqlens_k: torch.Tensor,
        total_length: torch.Tensor,
        past: list[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        """One prefill, chunk, verification or decode step.

        Args:
            input_ids: int64 [B, S].
            visual_embeds: [B, S, D], read where the mask is true; [B, S, (1 + L) * D] with L
                DeepStack features beside, zero where the mask is false.
            visual_mask: bool [B, S], true at visual tokens.
            position_ids: int64 [B, 3, S], M-RoPE positions (time, row, column).
            logits_index: int64 [B, N], the places in S whose logits are wanted.
            seqlens_k: int32 [B], tokens in the cache after this step, minus 1.
            total_length: int32 [], the largest of them, not minus 1.
            past: Key and value buffer of each layer in turn, [B, kv heads, M, d] each.

        Returns:
            Logits fp32 [B, N, V], then the key and value buffers of each layer.
        """
        embeds = self.embed_tokens(input_ids)
        visual = visual_embeds.to(embeds.dtype)
        visual, *deepstack = (
            torch.split(visual, self.hidden_size, dim=-1) if self.deepstack_layers else (visual,)
        )
        x = torch.where(visual_mask.unsqueeze(-1), visual, embeds)
        cos, sin = (table.to(x.dtype) for table in self._rotary_tables(position_ids))
        return self.logits(
            x, cos, sin, logits_index, seqlens_k, total_length, past, tuple(deepstack)
        )

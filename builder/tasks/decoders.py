"""Decoder-only checkpoints as one step over a preallocated cache, as the language stage runs it.

Which architectures are covered, and why another one is not, is said here alone.
"""

from typing import Any, Final

import torch
from torch import nn

from builder.contrib.attention import group_query_attention
from builder.decoders.rotary import RotaryDecoder
from builder.errors import CheckpointError

ROTARY_TYPES: Final = ("llama", "mistral", "qwen2", "qwen3")
COVERED: Final = (*ROTARY_TYPES, "gpt2")
"""Model types that are exported."""

_ROPE_TYPES = ("default", "linear", "llama3", "yarn")
"""Rotations whose angles do not depend on the length of the text."""


def require_covered(source: str, config: Any) -> None:
    """Refuse a config that the exported step would not compute.

    Args:
        source: For the error.
        config: Of the checkpoint.

    Raises:
        CheckpointError: names what is covered.
    """
    if config.model_type not in COVERED:
        raise CheckpointError(
            f"{source} is a '{config.model_type}' model; text-generation exports "
            f"{', '.join(COVERED[:-1])} and {COVERED[-1]} checkpoints (engine: vllm serves others)"
        )
    reason = _gpt2_reason(config) if config.model_type == "gpt2" else _rotary_reason(config)
    if reason:
        raise CheckpointError(f"{source}: {reason}, which the exported decoder does not have")


def _rotary_reason(config: Any) -> str | None:
    rope = config.rope_parameters or {}
    if (kind := rope.get("rope_type", "default")) not in _ROPE_TYPES:
        return f"its positions are of rope_type '{kind}' (covered: {', '.join(_ROPE_TYPES)})"
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        return "it rotates a part of each head only"
    return None


def _gpt2_reason(config: Any) -> str | None:
    if config.add_cross_attention:
        return "it has cross-attention"
    if not config.scale_attn_weights or config.scale_attn_by_inverse_layer_idx:
        return "it scales attention in a way of its own"
    return None


def attention_window(config: Any) -> int | None:
    """Tokens that a layer attends to at most; None: all."""
    if getattr(config, "use_sliding_window", True) is False:
        return None
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and "sliding_attention" not in kinds:
        return None
    window = getattr(config, "sliding_window", None)
    return None if window is None else int(window)


class TextDecoder(RotaryDecoder):
    """A Llama, Mistral, Qwen2 or Qwen3 model."""

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        logits_index: torch.Tensor,
        seqlens_k: torch.Tensor,
        total_length: torch.Tensor,
        past: list[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        """One prefill, chunk, verification or decode step.

        Args:
            input_ids: int64 [B, S].
            position_ids: int64 [B, S].
            logits_index: int64 [B, N], the places in S whose logits are wanted.
            seqlens_k: int32 [B], tokens in the cache after this step, minus 1.
            total_length: int32 [], the largest of them, not minus 1.
            past: Key and value buffer of each layer in turn, [B, kv heads, M, d] each.

        Returns:
            Logits fp32 [B, N, V], then the key and value buffers of each layer.
        """
        x = self.embed_tokens(input_ids)
        angles = position_ids.reshape(-1, 1).float() * self.rotary.inv_freq.float()
        scale = self.rotary.attention_scaling
        cos, sin = ((table * scale).to(x.dtype) for table in (angles.cos(), angles.sin()))
        return self.logits(x, cos, sin, logits_index, seqlens_k, total_length, past)


class Gpt2Decoder(nn.Module):
    """A GPT-2 model: learned positions, layer norms, a key and a value head for each query head."""

    def __init__(self, model: Any, *, tied: bool) -> None:
        """Take over a `GPT2LMHeadModel`.

        Args:
            model: The model; its head has no bias.
            tied: Multiply by the embedding itself (one copy in the file), not by a packed head.
        """
        super().__init__()
        config = model.config
        self.body = model.transformer
        head = model.lm_head.weight.detach()
        self.head = None if tied else nn.Parameter(head.t().contiguous())
        self.num_heads = self.num_kv_heads = int(config.num_attention_heads)
        self.hidden_size = int(config.hidden_size)
        self.head_dim = self.hidden_size // self.num_heads

    @property
    def num_layers(self) -> int:
        """Number of layers, each with one key and one value buffer."""
        return len(self.body.h)

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        logits_index: torch.Tensor,
        seqlens_k: torch.Tensor,
        total_length: torch.Tensor,
        past: list[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        """One step; arguments and results as `TextDecoder.forward` has them."""
        x = self.body.wte(input_ids) + self.body.wpe(position_ids)
        present: list[torch.Tensor] = []
        for i, block in enumerate(self.body.h):
            packed = _conv1d(block.attn.c_attn, block.ln_1(x))
            query, key, value = torch.split(packed, self.hidden_size, dim=-1)
            mixed, new_key, new_value = group_query_attention(
                query,
                key,
                value,
                past[2 * i],
                past[2 * i + 1],
                seqlens_k,
                total_length,
                self.num_heads,
                self.num_kv_heads,
            )
            x = x + _conv1d(block.attn.c_proj, mixed)
            inner = block.mlp.act(_conv1d(block.mlp.c_fc, block.ln_2(x)))
            x = x + _conv1d(block.mlp.c_proj, inner)
            present += (new_key, new_value)
        last = x.gather(1, logits_index.unsqueeze(-1).expand(-1, -1, self.hidden_size))
        weight = self.body.wte.weight.t() if self.head is None else self.head
        return (torch.matmul(self.body.ln_f(last), weight).float(), *present)


def _conv1d(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """GPT-2's linear layer, as a product that can be quantized: its own is an `addmm`."""
    y: torch.Tensor = torch.matmul(x, layer.weight) + layer.bias
    return y


def make_step(model: Any, *, quantized: bool) -> RotaryDecoder | Gpt2Decoder:
    """The step of a causal language model of a covered type.

    Args:
        model: `...ForCausalLM`, in the precision of the artifact.
        quantized: Whether the weights are quantized later; a tied head is then a copy.
    """
    head, embedding = model.lm_head.weight, model.get_input_embeddings().weight
    tied = not quantized and head.shape == embedding.shape and torch.equal(head, embedding)
    if model.config.model_type == "gpt2":
        return Gpt2Decoder(model, tied=tied).eval()
    return TextDecoder(model.model, model.lm_head, tied=tied).eval()

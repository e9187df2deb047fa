"""The language model as one step over a preallocated KV cache, as it is exported.

Attention runs over buffers that past and present share once exported: nothing grows or is copied
from step to step, and grouped keys and values are never expanded. Query, key and value are one
matrix product, as are the gate and the way up; norms and rotations are one operator each.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from builder.contrib.attention import group_query_attention
from builder.contrib.operators import rotary_embedding, skip_rms_norm


def _packed(*layers: Any) -> nn.Parameter:
    """Weights of linear layers side by side, [in, out of all]: a MatMul without a transpose."""
    return nn.Parameter(torch.cat([layer.weight.detach() for layer in layers]).t().contiguous())


def _packed_bias(*layers: Any) -> nn.Parameter | None:
    if layers[0].bias is None:
        return None
    return nn.Parameter(torch.cat([layer.bias.detach() for layer in layers]))


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    product = torch.matmul(x, weight)
    return product if bias is None else product + bias


class _Layer(nn.Module):
    """One decoder layer with packed weights."""

    head_norms: nn.ModuleList | None

    def __init__(self, layer: Any) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.qkv = _packed(*projections)
        self.qkv_bias = _packed_bias(*projections)
        self.widths = [int(p.out_features) for p in projections]
        self.out = _packed(attention.o_proj)
        self.out_bias = _packed_bias(attention.o_proj)
        self.gate_up = _packed(mlp.gate_proj, mlp.up_proj)
        self.gate_up_bias = _packed_bias(mlp.gate_proj, mlp.up_proj)
        self.down = _packed(mlp.down_proj)
        self.down_bias = _packed_bias(mlp.down_proj)
        self.act = mlp.act_fn
        self.norms = nn.ParameterList(
            [layer.input_layernorm.weight, layer.post_attention_layernorm.weight]
        )
        self.epsilon = float(layer.input_layernorm.variance_epsilon)
        # Qwen3 and Qwen3-VL normalize each head of queries and keys.
        self.head_norms = None
        if hasattr(attention, "q_norm"):
            self.head_norms = nn.ModuleList([attention.q_norm, attention.k_norm])


class RotaryDecoder(nn.Module):
    """Layers of RMS norms, rotated queries and keys in groups, and a gated MLP: Llama's plan."""

    def __init__(self, text_model: Any, head: Any, *, tied: bool) -> None:
        """Take over a text model and its head; weights are repacked.

        Args:
            text_model: The text model.
            head: The head, without a bias.
            tied: Multiply by the embedding itself (one copy in the file), not by a packed head.
        """
        super().__init__()
        config = text_model.config
        self.embed_tokens = text_model.embed_tokens
        self.rotary = text_model.rotary_emb
        self.layers = nn.ModuleList([_Layer(layer) for layer in text_model.layers])
        self.norm = text_model.norm
        self.head = None if tied else _packed(head)
        self.num_heads = int(config.num_attention_heads)
        self.num_kv_heads = int(config.num_key_value_heads)
        self.head_dim = int(
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        self.hidden_size = int(config.hidden_size)

    @property
    def num_layers(self) -> int:
        """Number of decoder layers, each with one key and one value buffer."""
        return len(self.layers)

    def _normalized(self, norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Each head of [B, S, heads * d] through an RMS norm."""
        heads: torch.Tensor = norm(x.reshape(*x.shape[:2], -1, self.head_dim))
        return heads.reshape(x.shape)

    def logits(
        self,
        x: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        logits_index: torch.Tensor,
        seqlens_k: torch.Tensor,
        total_length: torch.Tensor,
        past: list[torch.Tensor],
        deepstack: Sequence[torch.Tensor] = (),
    ) -> tuple[torch.Tensor, ...]:
        """Run the layers and the head over the cache.

        Args:
            x: [B, S, D], embeddings.
            cos: [B * S, d / 2], a row a token.
            sin: The same.
            logits_index: int64 [B, N], the places in S whose logits are wanted.
            seqlens_k: int32 [B], tokens in the cache after this step, minus 1.
            total_length: int32 [], the largest of them, not minus 1.
            past: Key and value buffer of each layer in turn, [B, kv heads, M, d] each.
            deepstack: [B, S, D] each, added behind the first layers.

        Returns:
            Logits fp32 [B, N, V], then the key and value buffers of each layer.
        """
        rows = torch.arange(cos.shape[0]).reshape(x.shape[:2])
        present: list[torch.Tensor] = []
        added = torch.zeros_like(x)
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, _Layer)
            before, after = layer.norms
            normal, x = skip_rms_norm(x, added, before, layer.epsilon)
            packed = _linear(normal, layer.qkv, layer.qkv_bias)
            query, key, value = torch.split(packed, layer.widths, dim=-1)
            if layer.head_norms is not None:
                query = self._normalized(layer.head_norms[0], query)
                key = self._normalized(layer.head_norms[1], key)
            mixed, new_key, new_value = group_query_attention(
                rotary_embedding(query, rows, cos, sin),
                rotary_embedding(key, rows, cos, sin),
                value,
                past[2 * i],
                past[2 * i + 1],
                seqlens_k,
                total_length,
                self.num_heads,
                self.num_kv_heads,
            )
            mixed = _linear(mixed, layer.out, layer.out_bias)
            normal, x = skip_rms_norm(x, mixed, after, layer.epsilon)
            gate, up = _linear(normal, layer.gate_up, layer.gate_up_bias).chunk(2, dim=-1)
            added = _linear(layer.act(gate) * up, layer.down, layer.down_bias)
            if i < len(deepstack):
                added = added + deepstack[i]
            present += (new_key, new_value)
        # Not take_along_dim: it fixes the batch size on export.
        last = (x + added).gather(1, logits_index.unsqueeze(-1).expand(-1, -1, self.hidden_size))
        weight = self.embed_tokens.weight.t() if self.head is None else self.head
        return (torch.matmul(self.norm(last), weight).float(), *present)

"""Encoder-decoder checkpoints as two graphs beside the encoder: cross states, and one token.

`cross.onnx` makes the keys and values that the decoder attends to of the encoder's states, once an
answer; `decoder.onnx` computes one token behind a cache that grows. The `seq2seq` stage runs both.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.export import Dim
from torch.nn import functional as F
from transformers.cache_utils import DynamicCache, DynamicLayer, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from builder.errors import CheckpointError
from builder.export.onnx_file import export_module
from builder.runtime.models.seq2seq.rules import Rules
from builder.runtime.models.seq2seq.steps import CachedDecoder
from builder.spec.models import Tolerance
from builder.spec.releases import OnnxLimits
from builder.verify.measure import ParityRow, compare

COVERED: Final = ("t5", "mt5", "bart", "mbart", "marian", "pegasus")
"""Model types of text2text-generation that are exported."""

_STEPS = 6
"""Tokens of an answer that are compared."""
_BATCH, _PAST, _SOURCE = 2, 3, 5
"""Sizes that are traced with."""


def require_covered(source: str, config: Any) -> None:
    """Refuse a config whose decoder is not exported.

    Raises:
        CheckpointError: names what is covered.
    """
    if config.model_type not in COVERED:
        raise CheckpointError(
            f"{source} is a '{config.model_type}' model; text2text-generation exports "
            f"{', '.join(COVERED[:-1])} and {COVERED[-1]} checkpoints"
        )


def _cross_attentions(model: Any) -> list[Any]:
    decoder = model.get_decoder()
    if hasattr(decoder, "block"):
        return [block.layer[1].EncDecAttention for block in decoder.block]
    return [layer.encoder_attn for layer in decoder.layers]


class EncoderStates(nn.Module):
    """`input_ids`, `attention_mask` int64 [B, S] -> the encoder's states fp32 [B, S, D]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.get_encoder()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """One tensor."""
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        states: torch.Tensor = output.last_hidden_state
        return states


class CrossStates(nn.Module):
    """States fp32 [B, S, D] -> key and value of each decoder layer, [B, heads, S, d] each."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for attention in _cross_attentions(model):
            names = ("k", "v") if hasattr(attention, "k") else ("k_proj", "v_proj")
            self.layers += [getattr(attention, name) for name in names]
        config = model.config
        self.heads = int(getattr(config, "decoder_attention_heads", None) or config.num_heads)

    def forward(self, encoder_hidden_states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Keys and values in turn."""
        batch, length, _ = encoder_hidden_states.shape
        return tuple(
            layer(encoder_hidden_states).reshape(batch, length, self.heads, -1).transpose(1, 2)
            for layer in self.layers
        )


class DecoderStep(nn.Module):
    """One token of every row: transformers' own forward with both caches given."""

    def __init__(self, model: Any, *, masked: bool) -> None:
        super().__init__()
        self.model = model
        self.masked = masked

    @property
    def num_layers(self) -> int:
        """Decoder layers, each with a key and a value in both caches."""
        return len(_cross_attentions(self.model))

    def forward(
        self,
        input_ids: torch.Tensor,
        encoder_attention_mask: torch.Tensor | None,
        past: list[torch.Tensor],
        cross: list[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        """Logits and the grown cache.

        Args:
            input_ids: int64 [B, 1].
            encoder_attention_mask: int64 [B, S]; None: all of the source counts.
            past: Key and value of each layer in turn, [B, heads, T, d] each, T >= 0.
            cross: The same of the source, [B, heads, S, d] each.

        Returns:
            Logits fp32 [B, V], then keys and values [B, heads, T + 1, d].
        """
        cache = EncoderDecoderCache(_cache(past), _cache(cross))
        batch, _, length, _ = cross[0].shape
        # Their shape alone is looked at: the cross states are there already.
        states = cross[0].new_zeros((batch, length, 1))
        output = self.model(
            decoder_input_ids=input_ids,
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            past_key_values=cache,
            use_cache=True,
            **({"attention_mask": encoder_attention_mask} if self.masked else {}),
        )
        grown = [
            tensor
            for layer in cache.self_attention_cache.layers
            for tensor in (layer.keys, layer.values)
        ]
        return (output.logits[:, -1], *grown)


def _cache(tensors: list[torch.Tensor]) -> DynamicCache:
    cache = DynamicCache()
    for key, value in zip(tensors[::2], tensors[1::2], strict=True):
        layer = DynamicLayer()
        layer.lazy_initialization(key, value)
        layer.keys, layer.values = key, value
        cache.layers.append(layer)
    return cache


def export_decoder(model: Any, folder: Path, limits: OnnxLimits, *, masked: bool) -> None:
    """Write `cross.onnx` and `decoder.onnx`.

    Args:
        model: `...ForConditionalGeneration`, eval mode.
        folder: Where to.
        limits: What the release can load.
        masked: Whether sources are of unequal lengths.

    Raises:
        ExportError: the export failed.
    """
    step = DecoderStep(model, masked=masked).eval()
    cross = CrossStates(model).eval()
    width = int(model.config.d_model)
    batch, source, past = (Dim(name, min=1, max=32768) for name in ("batch", "source", "past"))
    names = [f"{i}.{kind}" for i in range(step.num_layers) for kind in ("key", "value")]
    states = torch.zeros((_BATCH, _SOURCE, width))
    export_module(
        cross,
        (states,),
        folder / "cross.onnx",
        input_names=["encoder_hidden_states"],
        output_names=[f"cross.{name}" for name in names],
        dynamic_shapes=({0: batch, 1: source},),
        limits=limits,
    )
    with torch.inference_mode():
        crossed = [tensor.clone() for tensor in cross(states)]
    heads, depth = crossed[0].shape[1], crossed[0].shape[3]
    cached = [torch.zeros((_BATCH, heads, _PAST, depth)) for _ in names]
    mask = torch.ones((_BATCH, _SOURCE), dtype=torch.int64) if masked else None
    export_module(
        step,
        (torch.zeros((_BATCH, 1), dtype=torch.int64), mask, cached, crossed),
        folder / "decoder.onnx",
        input_names=[
            "input_ids",
            *(["encoder_attention_mask"] if masked else []),
            *(f"past.{name}" for name in names),
            *(f"cross.{name}" for name in names),
        ],
        output_names=["logits", *(f"present.{name}" for name in names)],
        dynamic_shapes=(
            {0: batch},
            {0: batch, 1: source} if masked else None,
            [{0: batch, 2: past} for _ in cached],
            [{0: batch, 2: source} for _ in crossed],
        ),
        limits=limits,
    )


@torch.inference_mode()
def decoder_parity(
    name: str,
    model: Any,
    decoder: CachedDecoder,
    states: Sequence[torch.Tensor],
    rules: Rules,
    tolerance: Tolerance,
) -> list[ParityRow]:
    """Logits of joint steps against the checkpoint's, each row of which is computed alone.

    Args:
        name: Of the artifact.
        model: The source.
        decoder: The artifact.
        states: The encoder's, fp32 [1, S, D] each; S may differ.
        rules: What the decoder starts with.
        tolerance: What is allowed.

    Returns:
        A row for one state alone, and one for all of them together.
    """
    rows = []
    for chosen in (states[:1], states):
        wanted, answers = [], []
        for state in chosen:
            encoded, ids = BaseModelOutput(last_hidden_state=state), [*rules.start, *rules.follow]
            for _ in range(_STEPS):
                output = model(encoder_outputs=encoded, decoder_input_ids=torch.tensor([ids]))
                ids.append(int(output.logits[0, -1].argmax()))
            wanted.append(output.logits[0].numpy())
            answers.append(ids[:-1])
        longest = max(state.shape[1] for state in chosen)
        padded = [F.pad(state, (0, 0, 0, longest - state.shape[1])) for state in chosen]
        mask = [[int(i < state.shape[1]) for i in range(longest)] for state in chosen]
        batch = decoder.start(torch.cat(padded).numpy(), np.array(mask, dtype=np.int64))
        tokens = np.array(answers, dtype=np.int64)
        got = [decoder.step(batch, tokens[:, step]) for step in range(tokens.shape[1])]
        rows.append(compare(name, "logits", np.stack(got, axis=1), np.stack(wanted), tolerance))
    return rows

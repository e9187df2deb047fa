"""The language stage's artifact."""

import copy
from pathlib import Path
from typing import Any

import torch

from builder.arr_coc.modules.decoder import Decoder
from builder.arr_coc.source import ArrCoc
from builder.export.decoder import BATCH, DTYPES, LENGTH, at_precision, export_step
from builder.spec.language import LanguageStage, Precision
from builder.spec.models import Spec
from builder.spec.releases import OnnxLimits, onnx_limits


def export_decoder(source: ArrCoc, spec: Spec, path: Path) -> None:
    """One decoder step over a shared KV cache; see `arr_coc.modules.decoder.Decoder.forward`."""
    stage = spec.stages.language
    export_text_model(
        source.text_model,
        source.model.lm_head,
        path,
        precision=spec.precision_of(stage),
        stage=stage,
        limits=onnx_limits(spec.triton_release),
        deepstack_layers=source.facts.deepstack_layers,
    )


def export_text_model(
    text_model: Any,
    head: Any,
    path: Path,
    *,
    precision: Precision,
    stage: LanguageStage,
    limits: OnnxLimits,
    deepstack_layers: int = 0,
) -> None:
    """Export a Qwen2-VL or Qwen3-VL text model and its head.

    Args:
        text_model: A `Qwen2VLTextModel` or `Qwen3VLTextModel`.
        head: Its `lm_head`.
        path: The file to write.
        precision: Of the activations, the cache, and the weights that are not quantized.
        stage: How the weights are quantized.
        limits: What the release can load.
        deepstack_layers: DeepStack features beside a visual embedding.

    Raises:
        ExportError: the export failed.
    """
    dtype = DTYPES[precision]
    text_model = at_precision(copy.deepcopy(text_model), dtype)
    head = copy.deepcopy(head).to(dtype)
    embedding = text_model.embed_tokens.weight
    tied = head.weight.shape == embedding.shape and torch.equal(head.weight, embedding)
    # Quantized weights are a copy anyway: the embedding stays as it is.
    decoder = Decoder(
        text_model,
        head,
        tied=tied and stage.weights is None,
        deepstack_layers=deepstack_layers,
    ).eval()
    visual_width = decoder.hidden_size * (1 + deepstack_layers)
    leading = [
        ("input_ids", torch.zeros((BATCH, LENGTH), dtype=torch.int64), (0, 1)),
        ("visual_embeds", torch.zeros((BATCH, LENGTH, visual_width), dtype=dtype), (0, 1)),
        ("visual_mask", torch.zeros((BATCH, LENGTH), dtype=torch.bool), (0, 1)),
        ("position_ids", torch.zeros((BATCH, 3, LENGTH), dtype=torch.int64), (0, 2)),
    ]
    export_step(decoder, leading, path, dtype=dtype, engine=stage, limits=limits)

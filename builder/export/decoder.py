"""The language stage's artifact."""

import copy
from pathlib import Path
from typing import Any

import onnx
import torch
from torch.export import Dim

from builder.arr_coc.checkpoint import ArrCoc
from builder.arr_coc.decoder import Decoder
from builder.export.examples import DTYPES
from builder.export.onnx_file import EXPORT_OPSET, export_module
from builder.export.weights import quantize_weights
from builder.spec.language import LanguageStage, Precision
from builder.spec.models import Spec
from builder.spec.releases import OnnxLimits, onnx_limits


def export_decoder(source: ArrCoc, spec: Spec, path: Path) -> None:
    """One decoder step over a shared KV cache; see `arr_coc.decoder.Decoder.forward`."""
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
    text_model = copy.deepcopy(text_model).to(dtype)
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
    batch, length, wanted, cache = 3, 5, 2, 16
    layers = range(decoder.num_layers)
    past = [
        torch.zeros((batch, decoder.num_kv_heads, cache, decoder.head_dim), dtype=dtype)
        for _ in layers
        for _ in ("key", "value")
    ]
    args = (
        torch.zeros((batch, length), dtype=torch.int64),
        torch.zeros((batch, length, visual_width), dtype=dtype),
        torch.zeros((batch, length), dtype=torch.bool),
        torch.zeros((batch, 3, length), dtype=torch.int64),
        torch.zeros((batch, wanted), dtype=torch.int64),
        torch.full((batch,), length - 1, dtype=torch.int32),
        torch.tensor(length, dtype=torch.int32),
        past,
    )
    b = Dim("batch", min=1, max=1024)
    s = Dim("sequence", min=1, max=32768)
    n = Dim("wanted", min=1, max=32768)
    m = Dim("cache", min=2, max=131072)
    names = [f"{i}.{kind}" for i in layers for kind in ("key", "value")]
    export_module(
        decoder,
        args,
        path,
        input_names=[
            "input_ids",
            "visual_embeds",
            "visual_mask",
            "position_ids",
            "logits_index",
            "seqlens_k",
            "total_sequence_length",
            *(f"past_key_values.{name}" for name in names),
        ],
        output_names=["logits", *(f"present.{name}" for name in names)],
        dynamic_shapes=(
            {0: b, 1: s},
            {0: b, 1: s},
            {0: b, 1: s},
            {0: b, 2: s},
            {0: b, 1: n},
            {0: b},
            {},
            [{0: b, 2: m} for _ in past],
        ),
        limits=limits,
    )
    _write_row_copy(path.with_name("row_copy.onnx"), past[0], limits)
    if stage.weights is not None:
        quantize_weights(path, stage.weights, stage.weight_block_size)


def _write_row_copy(path: Path, like: torch.Tensor, limits: OnnxLimits) -> None:
    """A graph that copies one row of a cache buffer, [kv heads, M, d], for caches on a device."""
    kinds = {torch.float32: onnx.TensorProto.FLOAT, torch.float16: onnx.TensorProto.FLOAT16}
    shape: list[int | str | None] = [like.shape[1], "cache", like.shape[3]]
    source, target = (
        onnx.helper.make_tensor_value_info(name, kinds[like.dtype], shape)
        for name in ("source", "target")
    )
    node = onnx.helper.make_node("Identity", ["source"], ["target"])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "row_copy", [source], [target]),
        opset_imports=[onnx.helper.make_opsetid("", EXPORT_OPSET)],
        ir_version=min(limits.ir_version, 10),
    )
    onnx.save(model, path)

"""One step of a decoder over a KV cache that past and present share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import onnx
import torch
from torch.export import Dim

from builder.export.onnx_file import EXPORT_OPSET, export_module
from builder.export.weights import quantize_weights
from builder.spec.language import DecoderSettings, Precision
from builder.spec.releases import OnnxLimits

DTYPES: Final[dict[Precision, torch.dtype]] = {"fp32": torch.float32, "fp16": torch.float16}

BATCH, LENGTH = 3, 5
_CACHE = 16
"""Sizes that are traced with: all different, none 0 or 1."""


def at_precision(module: Any, dtype: torch.dtype) -> Any:
    """A module with its weights in a precision; rotary frequencies stay as they are.

    In fp16 they would be off by 2^-11, which turns the first angle of position 1000 by half a
    radian.
    """
    kept = [(name, buffer) for name, buffer in module.named_buffers() if name.endswith("inv_freq")]
    module = module.to(dtype)
    for name, buffer in kept:
        place, _, last = name.rpartition(".")
        setattr(module.get_submodule(place), last, buffer)
    return module


def export_step(
    decoder: Any,
    leading: Sequence[tuple[str, torch.Tensor, tuple[int, int]]],
    path: Path,
    *,
    dtype: torch.dtype,
    engine: DecoderSettings,
    limits: OnnxLimits,
) -> None:
    """Export a decoder step over buffers that past and present share.

    Args:
        decoder: Takes the leading inputs, `logits_index`, `seqlens_k`, `total_sequence_length` and
            the cache, as `arr_coc.modules.decoder.Decoder.forward` does.
        leading: Name, example and the dims of batch and sequence of each leading input.
        path: The file to write; `row_copy.onnx` is written beside it.
        dtype: Of the cache.
        engine: How the weights are quantized.
        limits: What the release can load.

    Raises:
        ExportError: the export failed.
    """
    layers = range(decoder.num_layers)
    past = [
        torch.zeros((BATCH, decoder.num_kv_heads, _CACHE, decoder.head_dim), dtype=dtype)
        for _ in layers
        for _ in ("key", "value")
    ]
    args = (
        *(example for _, example, _ in leading),
        torch.zeros((BATCH, 2), dtype=torch.int64),
        torch.full((BATCH,), LENGTH - 1, dtype=torch.int32),
        torch.tensor(LENGTH, dtype=torch.int32),
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
            *(name for name, _, _ in leading),
            "logits_index",
            "seqlens_k",
            "total_sequence_length",
            *(f"past_key_values.{name}" for name in names),
        ],
        output_names=["logits", *(f"present.{name}" for name in names)],
        dynamic_shapes=(
            *({batch: b, sequence: s} for _, _, (batch, sequence) in leading),
            {0: b, 1: n},
            {0: b},
            {},
            [{0: b, 2: m} for _ in past],
        ),
        limits=limits,
    )
    _write_row_copy(path.with_name("row_copy.onnx"), past[0], limits)
    if engine.weights is not None:
        quantize_weights(path, engine.weights, engine.weight_block_size)


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

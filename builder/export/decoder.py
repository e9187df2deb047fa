"""The language stage's artifact."""

import copy
from pathlib import Path

import torch
from torch.export import Dim

from builder.arr_coc.checkpoint import ArrCoc
from builder.arr_coc.decoder import Decoder
from builder.export.examples import DTYPES
from builder.export.onnx_file import export_module
from builder.spec.models import Spec
from builder.spec.releases import onnx_limits


def export_decoder(source: ArrCoc, spec: Spec, path: Path) -> None:
    """One decoder step over a shared KV cache; see `arr_coc.decoder.Decoder.forward`."""
    dtype = DTYPES[spec.precision_of(spec.stages.language)]
    text_model = copy.deepcopy(source.text_model).to(dtype)
    head = copy.deepcopy(source.model.lm_head).to(dtype)
    if head.weight.shape == text_model.embed_tokens.weight.shape and torch.equal(
        head.weight, text_model.embed_tokens.weight
    ):
        head.weight = text_model.embed_tokens.weight  # tied: one copy in the file
    decoder = Decoder(text_model, head).eval()
    batch, length, cache = 3, 5, 16
    hidden = int(text_model.config.hidden_size)
    layers = range(decoder.num_layers)
    past = [
        torch.zeros((batch, decoder.num_kv_heads, cache, decoder.head_dim), dtype=dtype)
        for _ in layers
        for _ in ("key", "value")
    ]
    args = (
        torch.zeros((batch, length), dtype=torch.int64),
        torch.zeros((batch, length, hidden), dtype=dtype),
        torch.zeros((batch, length), dtype=torch.bool),
        torch.zeros((batch, 3, length), dtype=torch.int64),
        torch.zeros(batch, dtype=torch.int64),
        torch.full((batch,), length - 1, dtype=torch.int32),
        torch.tensor(length, dtype=torch.int32),
        past,
    )
    b = Dim("batch", min=1, max=1024)
    s = Dim("sequence", min=1, max=32768)
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
            "last_index",
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
            {0: b},
            {0: b},
            {},
            [{0: b, 2: m} for _ in past],
        ),
        limits=onnx_limits(spec.triton_release),
    )

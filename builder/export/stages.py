"""The ONNX artifacts of the arr-coc stages."""

import copy
from pathlib import Path

import torch
from torch import nn
from torch.export import Dim

from builder.arr_coc.checkpoint import ArrCoc
from builder.arr_coc.decoder import Decoder
from builder.arr_coc.relevance import Relevance
from builder.arr_coc.vision import VisionTower
from builder.export.onnx_file import export_module
from builder.spec.models import Precision, Spec
from builder.spec.releases import onnx_limits

_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16}
_EXAMPLE_BATCH = 3


class _RelevanceGraph(nn.Module):
    """Relevance with everything fixed at build time held inside."""

    embeddings: torch.Tensor

    def __init__(self, relevance: Relevance, embeddings: torch.Tensor, spec: Spec) -> None:
        super().__init__()
        self.relevance = relevance
        self.register_buffer("embeddings", embeddings.detach().float(), persistent=False)
        self._grid = (spec.grid.rows, spec.grid.cols)
        self._kept = spec.kept_tokens

    def forward(
        self, pixels: torch.Tensor, query_ids: torch.Tensor, query_length: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        kept, relevance = self.relevance(
            pixels, query_ids, query_length, self.embeddings, self._grid, self._kept
        )
        return kept, relevance.float()


def _pixels(source: ArrCoc, spec: Spec) -> torch.Tensor:
    height, width = (side * source.facts.cell_size for side in (spec.grid.rows, spec.grid.cols))
    generator = torch.Generator().manual_seed(0)
    shape = (_EXAMPLE_BATCH, height, width, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def export_vision(source: ArrCoc, spec: Spec, path: Path) -> None:
    """`pixels` uint8 [B, H, W, 3] -> `image_embeds` [B, N, D]."""
    dtype = _DTYPES[spec.precision_of(spec.stages.vision)]
    # A copy: casting in place would change the reference.
    visual = copy.deepcopy(source.visual).to(dtype)
    tower = VisionTower(
        visual, (spec.grid.rows, spec.grid.cols), source.facts.image_mean, source.facts.image_std
    )
    export_module(
        _Fp32Output(tower).eval(),
        (_pixels(source, spec),),
        path,
        input_names=["pixels"],
        output_names=["image_embeds"],
        dynamic_shapes=({0: Dim("batch", min=1, max=1024)},),
        limits=onnx_limits(spec.triton_release),
    )


class _Fp32Output(nn.Module):
    """Clients and the next stage see fp32 whatever the precision: a target never changes dtypes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.module(pixels)
        return output.float()


def export_relevance(source: ArrCoc, spec: Spec, path: Path) -> None:
    """`pixels`, `query_ids`, `query_length` -> `kept_indices` int32 [B, K], `relevance_map`."""
    batch = Dim("batch", min=1, max=1024)
    query = torch.zeros((_EXAMPLE_BATCH, spec.limits.max_query_tokens), dtype=torch.int32)
    length = torch.full((_EXAMPLE_BATCH, 1), 2, dtype=torch.int32)
    export_module(
        _RelevanceGraph(source.relevance, source.embeddings, spec).eval(),
        (_pixels(source, spec), query, length),
        path,
        input_names=["pixels", "query_ids", "query_length"],
        output_names=["kept_indices", "relevance_map"],
        dynamic_shapes=({0: batch}, {0: batch}, {0: batch}),
        limits=onnx_limits(spec.triton_release),
    )


def export_decoder(source: ArrCoc, spec: Spec, path: Path) -> None:
    """One decoder step over a shared KV cache; see `arr_coc.decoder.Decoder.forward`."""
    dtype = _DTYPES[spec.precision_of(spec.stages.language)]
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

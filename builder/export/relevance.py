"""The relevance stage's artifact."""

from pathlib import Path

import torch
from torch import nn
from torch.export import Dim

from builder.arr_coc.checkpoint import ArrCoc
from builder.arr_coc.relevance import Relevance
from builder.export.examples import BATCH, example_pixels
from builder.export.onnx_file import export_module
from builder.spec.models import Spec
from builder.spec.releases import onnx_limits


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


def export_relevance(source: ArrCoc, spec: Spec, path: Path) -> None:
    """`pixels`, `query_ids`, `query_length` -> `kept_indices` int32 [B, K], `relevance_map`."""
    batch = Dim("batch", min=1, max=1024)
    query = torch.zeros((BATCH, spec.limits.max_query_tokens), dtype=torch.int32)
    length = torch.full((BATCH, 1), 2, dtype=torch.int32)
    export_module(
        _RelevanceGraph(source.relevance, source.embeddings, spec).eval(),
        (example_pixels(source, spec), query, length),
        path,
        input_names=["pixels", "query_ids", "query_length"],
        output_names=["kept_indices", "relevance_map"],
        dynamic_shapes=({0: batch}, {0: batch}, {0: batch}),
        limits=onnx_limits(spec.triton_release),
    )

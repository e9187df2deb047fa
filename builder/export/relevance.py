"""The relevance stage's artifact."""

from pathlib import Path

import torch
from torch.export import Dim

from builder.arr_coc.checkpoint import ArrCoc
from builder.arr_coc.folded import FoldedRelevance
from builder.export.examples import BATCH, example_pixels
from builder.export.onnx_file import export_module
from builder.spec.models import Spec
from builder.spec.releases import onnx_limits


def export_relevance(source: ArrCoc, spec: Spec, path: Path) -> None:
    """`pixels`, `query_ids`, `query_length` -> `kept_indices` int32 [B, K], `relevance_map`."""
    batch = Dim("batch", min=1, max=1024)
    query = torch.zeros((BATCH, spec.limits.max_query_tokens), dtype=torch.int32)
    length = torch.full((BATCH, 1), 2, dtype=torch.int32)
    graph = FoldedRelevance(
        source.relevance,
        source.embeddings,
        (spec.grid.rows, spec.grid.cols),
        source.facts.cell_size,
        spec.kept_tokens,
        integer=spec.target == "cpu",
    )
    export_module(
        graph.eval(),
        (example_pixels(source, spec), query, length),
        path,
        input_names=["pixels", "query_ids", "query_length"],
        output_names=["kept_indices", "relevance_map"],
        dynamic_shapes=({0: batch}, {0: batch}, {0: batch}),
        limits=onnx_limits(spec.triton_release),
    )

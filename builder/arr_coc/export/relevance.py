"""The relevance stage's artifact."""

from functools import partial
from pathlib import Path

import torch
from torch.export import Dim

from builder.arr_coc.export.by_shape import export_by_shape
from builder.arr_coc.export.examples import BATCH, example_pixels, pixel_dims
from builder.arr_coc.modules.folded import FoldedRelevance
from builder.arr_coc.source import ArrCoc
from builder.export.onnx_file import export_module
from builder.spec.models import Grid, Spec
from builder.spec.releases import onnx_limits


def export_relevance(source: ArrCoc, spec: Spec, path: Path) -> None:
    """`pixels`, `query_ids`, `query_length` -> `kept_indices` int32 [B, K], `relevance_map`.

    With several grids the pixels and the map are those of any one of them; where a request may
    have several pictures, `pixels` is [B, P, H, W, 3] and the map [B, P * rows, cols].
    """
    export = partial(_export_grid, source, spec)
    export_by_shape(spec.all_grids, export, path, "pixels", onnx_limits(spec.triton_release))


def _export_grid(source: ArrCoc, spec: Spec, grid: Grid, path: Path) -> None:
    batch = Dim("batch", min=1, max=1024)
    query = torch.zeros((BATCH, spec.limits.max_query_tokens), dtype=torch.int32)
    length = torch.full((BATCH, 1), 2, dtype=torch.int32)
    graph = FoldedRelevance(
        source.relevance,
        source.embeddings,
        grid.shape,
        source.facts.cell_size,
        spec.kept_tokens,
        integer=spec.target == "cpu",
    )
    export_module(
        graph.eval(),
        (example_pixels(source, grid, several=spec.max_pictures > 1), query, length),
        path,
        input_names=["pixels", "query_ids", "query_length"],
        output_names=["kept_indices", "relevance_map"],
        dynamic_shapes=(pixel_dims(batch, spec), {0: batch}, {0: batch}),
        limits=onnx_limits(spec.triton_release),
    )

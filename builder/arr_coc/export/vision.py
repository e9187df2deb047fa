"""The vision stage's artifact."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim

from builder.arr_coc.export.by_shape import export_by_shape
from builder.arr_coc.export.examples import BATCH, example_pixels, pixel_dims
from builder.arr_coc.modules.vision import VisionTower
from builder.arr_coc.source import ArrCoc
from builder.export.decoder import DTYPES
from builder.export.onnx_file import export_module
from builder.spec.models import Grid, Spec
from builder.spec.releases import onnx_limits


class _Fp32Outputs(nn.Module):
    """Clients and the next stage see fp32 whatever the precision: a target never changes dtypes."""

    def __init__(self, tower: VisionTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(output.float() for output in self.tower(*inputs) if output is not None)


def export_vision(source: ArrCoc, spec: Spec, path: Path) -> None:
    """`pixels` uint8 [B, H, W, 3] -> `image_embeds` [B, N, D], `deepstack` [B, L, N, D].

    `deepstack` is there for Qwen3-VL. With `prune: before_vision` there is a second input,
    `kept_indices` int32 [B, K], and K in the place of N. With several grids H, W and N are those
    of any one of them. Where a request may have several pictures, `pixels` is [B, P, H, W, 3] and
    P * N is in the place of N.
    """
    dtype = DTYPES[spec.precision_of(spec.stages.vision)]
    # A copy: casting in place would change the reference.
    visual = copy.deepcopy(source.visual).to(dtype)
    export = partial(_export_grid, source, spec, visual)
    export_by_shape(spec.all_grids, export, path, "pixels", onnx_limits(spec.triton_release))


def _export_grid(source: ArrCoc, spec: Spec, visual: Any, grid: Grid, path: Path) -> None:
    tower = VisionTower(
        visual,
        grid.shape,
        source.facts.image_mean,
        source.facts.image_std,
        fused=spec.target != "tensorrt",
    )
    inputs = {"pixels": example_pixels(source, grid, several=spec.max_pictures > 1)}
    if spec.prune == "before_vision":
        kept = torch.arange(spec.kept_tokens, dtype=torch.int32)
        inputs["kept_indices"] = kept.repeat(BATCH, 1)
    batch = Dim("batch", min=1, max=1024)
    export_module(
        _Fp32Outputs(tower).eval(),
        tuple(inputs.values()),
        path,
        input_names=list(inputs),
        output_names=["image_embeds", "deepstack"][: 2 if tower.deepstack_size else 1],
        dynamic_shapes=((pixel_dims(batch, spec), *({0: batch} for _ in list(inputs)[1:])),),
        limits=onnx_limits(spec.triton_release),
    )

"""The vision stage's artifact."""

import copy
from pathlib import Path

import torch
from torch import nn
from torch.export import Dim

from builder.arr_coc.checkpoint import ArrCoc
from builder.arr_coc.vision import VisionTower
from builder.export.examples import DTYPES, example_pixels
from builder.export.onnx_file import export_module
from builder.spec.models import Spec
from builder.spec.releases import onnx_limits


class _Fp32Output(nn.Module):
    """Clients and the next stage see fp32 whatever the precision: a target never changes dtypes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.module(pixels)
        return output.float()


def export_vision(source: ArrCoc, spec: Spec, path: Path) -> None:
    """`pixels` uint8 [B, H, W, 3] -> `image_embeds` [B, N, D]."""
    dtype = DTYPES[spec.precision_of(spec.stages.vision)]
    # A copy: casting in place would change the reference.
    visual = copy.deepcopy(source.visual).to(dtype)
    tower = VisionTower(
        visual, (spec.grid.rows, spec.grid.cols), source.facts.image_mean, source.facts.image_std
    )
    export_module(
        _Fp32Output(tower).eval(),
        (example_pixels(source, spec),),
        path,
        input_names=["pixels"],
        output_names=["image_embeds"],
        dynamic_shapes=({0: Dim("batch", min=1, max=1024)},),
        limits=onnx_limits(spec.triton_release),
    )

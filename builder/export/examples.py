"""Example inputs that the exporter traces with, and the dtypes of the precisions."""

from typing import Final

import torch

from builder.arr_coc.checkpoint import ArrCoc
from builder.spec.models import Grid, Precision

DTYPES: Final[dict[Precision, torch.dtype]] = {"fp32": torch.float32, "fp16": torch.float16}

BATCH: Final = 3
"""Neither 0 nor 1, which the exporter would take for constants."""


def example_pixels(source: ArrCoc, grid: Grid) -> torch.Tensor:
    """Noise: uint8 [3, H, W, 3] of a grid."""
    height, width = (side * source.facts.cell_size for side in grid.shape)
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, height, width, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

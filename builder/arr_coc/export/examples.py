"""Example inputs that the exporter traces with."""

from typing import Any, Final

import torch
from torch.export import Dim

from builder.arr_coc.source import ArrCoc
from builder.spec.models import Grid, Spec

BATCH: Final = 3
"""Neither 0 nor 1, which the exporter would take for constants."""


PICTURES: Final = 2
"""Pictures of a request, where there may be several."""


def example_pixels(source: ArrCoc, grid: Grid, *, several: bool) -> torch.Tensor:
    """Noise: uint8 [3, H, W, 3] of a grid; [3, 2, H, W, 3] where there may be several pictures."""
    height, width = (side * source.facts.cell_size for side in grid.shape)
    generator = torch.Generator().manual_seed(0)
    pictures = (PICTURES,) if several else ()
    shape = (BATCH, *pictures, height, width, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def pixel_dims(batch: Any, spec: Spec) -> dict[int, Any]:
    """The free dims of `pixels`, for `dynamic_shapes`."""
    if spec.max_pictures == 1:
        return {0: batch}
    return {0: batch, 1: Dim("pictures", min=1, max=spec.max_pictures)}

"""Which grid of token cells a picture is resized to."""

from collections.abc import Sequence
from fractions import Fraction

Grid = tuple[int, int]
"""Token cells (rows, cols)."""


def parse_grids(text: str) -> list[Grid]:
    """Grids from a parameter: `16x16,12x20` is 16 rows of 16 cells and 12 rows of 20."""
    grids = []
    for part in text.split(","):
        rows, cols = part.split("x")
        grids.append((int(rows), int(cols)))
    return grids


def nearest_grid(grids: Sequence[Grid], size: tuple[int, int]) -> Grid:
    """The grid whose aspect ratio is nearest to a picture's, by the ratio of the two.

    Exact; of two that are equally near, the first.

    Args:
        grids: One at least.
        size: Of the upright picture, (width, height) in pixels.
    """
    width, height = size

    def distance(grid: Grid) -> Fraction:
        rows, cols = grid
        ratio = Fraction(width * rows, height * cols)
        return max(ratio, 1 / ratio)

    return min(grids, key=distance)

"""Which grid of token cells pictures are resized to."""

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


def nearest_grid(grids: Sequence[Grid], sizes: Sequence[tuple[int, int]]) -> Grid:
    """The grid whose aspect ratio is nearest to the pictures', by the ratio of the two.

    Several pictures have the geometric mean of their aspect ratios. Exact; of two grids that are
    equally near, the first.

    Args:
        grids: One at least.
        sizes: Of the upright pictures, one at least: (width, height) in pixels.
    """
    product = Fraction(1)  # the geometric mean, not taken to its root
    for width, height in sizes:
        product *= Fraction(width, height)

    def distance(grid: Grid) -> Fraction:
        rows, cols = grid
        ratio = product / Fraction(cols, rows) ** len(sizes)
        return max(ratio, 1 / ratio)

    return min(grids, key=distance)

"""A picture of what the pipeline looked at: the relevance map and the kept token cells.

The server resizes the picture to a grid of token cells whatever its aspect ratio, so cell
(row, col) of a rows x cols map covers the same fraction of the original picture. Needs Pillow.
"""

import io
from collections.abc import Iterable, Sequence
from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageOps

Box = tuple[int, int, int, int]

_MIN_CELL = 8  # pixels; a smaller picture is enlarged so that cells can be told apart
_MAX_ENLARGED = 4096  # pixels of the longer side, where enlarging stops
_DIMMED = 0.35  # brightness of cells that were not kept
_TINT = 0.45  # weight of the relevance colour
_OUTLINE = (255, 255, 255)
_COLOURS = ("#30123b", "#1ae4b6", "#faba39")  # least, middle, most relevant


def cell_box(index: int, rows: int, cols: int, width: int, height: int) -> Box:
    """Pixels of token cell `index`: left, top, right, bottom, the last two exclusive.

    The boxes of all cells tile the picture without gap or overlap.

    Raises:
        ValueError: there is no such cell.
    """
    if not 0 <= index < rows * cols:
        raise ValueError(f"Token cell {index} is outside the {rows} x {cols} grid.")
    row, col = divmod(index, cols)
    return (
        col * width // cols,
        row * height // rows,
        (col + 1) * width // cols,
        (row + 1) * height // rows,
    )


def draw(image: bytes, kept_indices: Iterable[int], relevance_map: ArrayLike) -> Image.Image:
    """Draw over the encoded picture `image`; returns RGB, enlarged when cells would be tiny.

    Kept cells (row-major indices) keep their brightness and get an outline, the others are
    dimmed; all are tinted by `relevance_map` [rows, cols] from blue (least) to amber (most).

    Raises:
        ValueError: the map has no cells, or a kept cell is outside it.
        PIL.UnidentifiedImageError: `image` is not a picture.
    """
    return _draw(image, kept_indices, _normalized(relevance_map))


def draw_each(
    images: Sequence[bytes], kept_indices: Iterable[int], relevance_map: ArrayLike
) -> list[Image.Image]:
    """Draw over each of the pictures of one question, with one scale of colours for all.

    Args:
        images: the encoded pictures.
        kept_indices: of all pictures together: cell i is cell i - p * rows * cols of picture p.
        relevance_map: [pictures * rows, cols], one picture's below the other's.

    Raises:
        ValueError: the map is not of so many pictures, or a kept cell is outside it.
        PIL.UnidentifiedImageError: one of `images` is not a picture.
    """
    relevance = _normalized(relevance_map)
    if not images or relevance.shape[0] % len(images):
        raise ValueError(
            f"The relevance map has {relevance.shape[0]} rows, which {len(images)} pictures "
            "cannot share."
        )
    maps = np.split(relevance, len(images))
    cells = maps[0].size
    kept: list[list[int]] = [[] for _ in images]
    for index in kept_indices:
        picture, cell = divmod(int(index), cells)
        if not 0 <= picture < len(images):
            raise ValueError(f"Token cell {index} is in none of the {len(images)} pictures.")
        kept[picture].append(cell)
    return [_draw(*parts) for parts in zip(images, kept, maps, strict=True)]


def _draw(image: bytes, kept_indices: Iterable[int], relevance: NDArray[np.float64]) -> Image.Image:
    """`draw` with a map of 0 to 1."""
    rows, cols = relevance.shape
    with Image.open(io.BytesIO(image)) as encoded:
        # The camera's rotation is applied before anything is cut into cells.
        picture = _enlarged(ImageOps.exif_transpose(encoded).convert("RGB"), rows, cols)
    kept = [
        cell_box(int(index), rows, cols, picture.width, picture.height) for index in kept_indices
    ]
    colours = ImageOps.colorize(
        _levels(relevance, picture.size), black=_COLOURS[0], mid=_COLOURS[1], white=_COLOURS[2]
    )
    bright = Image.blend(picture, colours, _TINT)
    mask = Image.new("L", picture.size, 0)
    for box in kept:
        mask.paste(255, box)
    drawn = Image.composite(bright, bright.point(lambda level: level * _DIMMED), mask)
    pen = ImageDraw.Draw(drawn)
    for left, top, right, bottom in kept:
        pen.rectangle((left, top, right - 1, bottom - 1), outline=_OUTLINE)
    return drawn


def _normalized(relevance_map: ArrayLike) -> NDArray[np.float64]:
    """[rows, cols] scaled to 0..1; a constant map gives zeros."""
    relevance = np.asarray(relevance_map, dtype=np.float64)
    if relevance.ndim != 2 or relevance.size == 0:
        raise ValueError(f"The relevance map has shape {list(relevance.shape)}, not rows x cols.")
    if not np.isfinite(relevance).all():
        raise ValueError("The relevance map holds values that are not finite.")
    low, high = relevance.min(), relevance.max()
    return np.zeros_like(relevance) if high == low else (relevance - low) / (high - low)


def _enlarged(picture: Image.Image, rows: int, cols: int) -> Image.Image:
    """Every side has room for its cells; only a strip too thin for that changes its shape."""
    width, height = picture.size
    least = (_MIN_CELL * cols, _MIN_CELL * rows)
    factor = max(1, ceil(least[0] / width), ceil(least[1] / height))
    factor = min(factor, max(1, _MAX_ENLARGED // max(width, height)))
    size = (max(width * factor, least[0]), max(height * factor, least[1]))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.NEAREST)


def _levels(relevance: NDArray[np.float64], size: tuple[int, int]) -> Image.Image:
    """Grey levels of the map at the size of the picture, every cell exactly in its box."""
    rows, cols = relevance.shape
    levels = Image.new("L", size)
    for index, value in enumerate(relevance.reshape(-1).tolist()):
        levels.paste(round(255 * value), cell_box(index, rows, cols, *size))
    return levels

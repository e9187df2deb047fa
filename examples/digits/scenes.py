"""Scenes: handwritten digits, scaled, coloured and placed without overlap over a photograph.

A scene is a function of (seed, split, index) alone; nothing is stored.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .handwriting import Split, draw, drawings
from .palette import COLOURS, PALETTE
from .photographs import crop

# Pixels a side of a picture and of a token cell: an 8 x 8 grid of visual tokens.
SIDE = 128
CELL = 16
SMALLEST, LARGEST = 26, 52
_GAP = 2
_JITTER = 12


@dataclass(frozen=True)
class Digit:
    """One digit of a scene; lengths in pixels, `source` an index into the split's drawings."""

    digit: int
    colour: str
    top: int
    left: int
    height: int
    width: int
    source: int

    @property
    def x(self) -> float:
        """Centre, pixels from the left."""
        return self.left + self.width / 2

    @property
    def y(self) -> float:
        """Centre, pixels from the top."""
        return self.top + self.height / 2


@dataclass(frozen=True)
class Scene:
    """The digits of a picture, and how to draw it again."""

    digits: tuple[Digit, ...]
    side: int
    split: Split
    paint_seed: int

    def pixels(self) -> npt.NDArray[np.uint8]:
        """The picture, uint8 [side, side, 3]."""
        rng = np.random.default_rng(self.paint_seed)
        picture = crop(self.split, self.side, rng)
        for digit in self.digits:
            ink = np.array(PALETTE[digit.colour]) + rng.integers(-_JITTER, _JITTER + 1, size=3)
            alpha = draw(drawings(self.split)[0][digit.source], digit.height, digit.width)[
                ..., None
            ]
            rows = slice(digit.top, digit.top + digit.height)
            columns = slice(digit.left, digit.left + digit.width)
            under = picture[rows, columns].astype(np.float32)
            over = np.clip(ink, 0, 255).astype(np.float32)
            picture[rows, columns] = (under + (over - under) * alpha + 0.5).astype(np.uint8)
        return picture


def scene_rng(seed: int, split: Split, index: int) -> np.random.Generator:
    """The generator of everything random about one scene and its questions."""
    return np.random.default_rng([seed, 0 if split == "train" else 1, index])


def compose(
    rng: np.random.Generator,
    split: Split,
    fewest: int = 2,
    most: int = 5,
    side: int = SIDE,
) -> Scene:
    """A scene of `fewest` to `most` digits in different colours (the digits may repeat)."""
    count = int(rng.integers(fewest, most + 1))
    boxes = _place(rng, count, side)
    colours = rng.permutation(len(COLOURS))[:count]
    digits_of = drawings(split)[1]
    sources = rng.integers(len(digits_of), size=count)
    digits = tuple(
        Digit(int(digits_of[source]), COLOURS[colour], *box, source=int(source))
        for box, colour, source in zip(boxes, colours, sources, strict=True)
    )
    return Scene(digits, side, split, int(rng.integers(2**62)))


def _place(rng: np.random.Generator, count: int, side: int) -> list[tuple[int, int, int, int]]:
    """Boxes (top, left, height, width) that do not touch; large ones find a place first."""
    while True:
        heights = np.sort(rng.integers(SMALLEST, LARGEST + 1, size=count))[::-1].tolist()
        shares = rng.uniform(0.75, 1.0, size=count).tolist()
        boxes: list[tuple[int, int, int, int]] = []
        for height, share in zip(heights, shares, strict=True):
            width = round(height * share)
            for down, along in rng.random((12, 2)).tolist():
                top = int(down * (side - height + 1))
                left = int(along * (side - width + 1))
                if all(
                    top + height + _GAP <= t
                    or t + h + _GAP <= top
                    or left + width + _GAP <= x
                    or x + w + _GAP <= left
                    for t, x, h, w in boxes
                ):
                    boxes.append((top, left, height, width))
                    break
            else:
                break
        if len(boxes) == count:
            return boxes

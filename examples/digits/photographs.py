"""Backgrounds: crops of the photographs inside the scikit-image and scikit-learn wheels.

Training crops come from the left 70% of each photograph, held-out crops from the right 30%.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import skimage
import sklearn.datasets
from PIL import Image

from .handwriting import Split

_SKIMAGE = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "grass.png",
    "gravel.png",
    "motorcycle_left.png",
    "rocket.jpg",
)
_SKLEARN = ("china.jpg", "flower.jpg")


@lru_cache(maxsize=2)
def photographs(split: Split) -> tuple[npt.NDArray[np.uint8], ...]:
    """The part of every photograph that a split may use, each uint8 [H, W, 3]."""
    data = Path(skimage.__file__).parent / "data"
    images = Path(sklearn.datasets.__file__).parent / "images"
    files = [data / name for name in _SKIMAGE] + [images / name for name in _SKLEARN]
    parts = []
    for file in files:
        with Image.open(file) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        border = round(pixels.shape[1] * 0.7)
        part = pixels[:, :border] if split == "train" else pixels[:, border:]
        parts.append(np.ascontiguousarray(part))
    return tuple(parts)


def crop(split: Split, size: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A random square crop, dimmed so that digits stand out: uint8 [size, size, 3]."""
    parts = photographs(split)
    pixels = parts[rng.integers(len(parts))]
    top = rng.integers(pixels.shape[0] - size + 1)
    left = rng.integers(pixels.shape[1] - size + 1)
    window = pixels[top : top + size, left : left + size]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    dim = (np.arange(256) * rng.uniform(0.3, 0.6)).astype(np.uint8)
    return np.take(dim, window)

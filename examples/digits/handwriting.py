"""scikit-learn's handwritten digits (8 x 8), split in two halves by index, ready to be drawn.

The set is the test part of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten
Digits", UCI, 1998. Even indices train, odd indices are held out: no drawing is in both, but
the same writers are (a yardstick for a served model, not a handwriting benchmark).
"""

from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage  # type: ignore[import-untyped]
from sklearn.datasets import load_digits

Split = Literal["train", "test"]
FloatArray = npt.NDArray[np.float32]

# Slightly turned, sheared and scaled copies of each training drawing: 898 drawings are few.
_VARIANTS = 32
# Strokes are drawn fuller than the 0..16 pixel counts of the set, which are soft.
_GAIN = 1.15


def split_indices(split: Split) -> npt.NDArray[np.int64]:
    """Indices of scikit-learn's digits that belong to a split."""
    total = len(load_digits().target)
    return np.arange(0 if split == "train" else 1, total, 2)


@lru_cache(maxsize=2)
def drawings(split: Split) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """All drawings of a split: opacity float32 [M, 8, 8] in 0..1, and digit int64 [M].

    The training half holds every drawing 32 times, 31 of them turned and sheared a little;
    the test half holds every drawing once, as it is.
    """
    data = load_digits()
    chosen = split_indices(split)
    images = (data.images[chosen] / 16).astype(np.float32)
    digits = data.target[chosen].astype(np.int64)
    if split == "test":
        return images, digits
    rng = np.random.default_rng(20)
    varied = [images]
    for _ in range(_VARIANTS - 1):
        varied.append(np.stack([_warp(image, rng) for image in images]))
    return np.concatenate(varied), np.tile(digits, _VARIANTS)


def _warp(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    turn = rng.normal(0, 0.12)
    shear = rng.normal(0, 0.10)
    scale = rng.normal(1.0, 0.06, size=2)
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = np.array([[cos, -sin], [sin + shear, cos]]) * scale[:, None]
    centre = np.array([3.5, 3.5])
    offset = centre - matrix @ centre + rng.normal(0, 0.25, size=2)
    warped = ndimage.affine_transform(image, matrix, offset, order=1)
    # Pen pressure: a power near 1 thickens or thins the strokes.
    pressure = float(np.exp(rng.normal(0, 0.15)))
    varied: FloatArray = np.clip(warped, 0, 1).astype(np.float32) ** np.float32(pressure)
    return varied


@lru_cache(maxsize=256)
def _resampler(size: int) -> FloatArray:
    """Bilinear resampling from 8 to `size` samples, as a matrix [size, 8]."""
    centres = (np.arange(size) + 0.5) * 8 / size - 0.5
    weights = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(8)[None, :]))
    return weights.astype(np.float32)


def draw(drawing: FloatArray, height: int, width: int) -> FloatArray:
    """A drawing [8, 8] at another size: opacity float32 [height, width] in 0..1."""
    grown = _resampler(height) @ drawing @ _resampler(width).T
    return np.minimum(grown * np.float32(_GAIN), np.float32(1))

"""Vectors of texts, kept between requests, and scores of a picture against them."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..classify.scores import scores

Vector = NDArray[np.float32]
Embed = Callable[[list[str]], NDArray[np.float32]]
"""Texts -> fp32 [texts, D]."""


class TextVectors:
    """Computes the vector of a text once; of those used least lately, the oldest is forgotten."""

    def __init__(self, embed: Embed, capacity: int) -> None:
        """Set a cache up.

        Args:
            embed: Computes vectors.
            capacity: Most vectors that are kept.
        """
        self._embed = embed
        self._capacity = capacity
        self._known: OrderedDict[str, Vector] = OrderedDict()

    def of(self, texts: Sequence[str]) -> dict[str, Vector]:
        """The vector of each text, however often it occurs."""
        wanted = list(dict.fromkeys(texts))
        new = [text for text in wanted if text not in self._known]
        found = dict(zip(new, self._embed(new), strict=True)) if new else {}
        for text in wanted:
            if text in self._known:
                found[text] = self._known[text]
                self._known.move_to_end(text)
            else:
                self._known[text] = found[text]
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)
        return found


def picture_scores(picture: Vector, labels: NDArray[np.float32], scale: float) -> Vector:
    """Softmax over the labels of a picture, as CLIP scores them.

    Args:
        picture: [D], of length 1.
        labels: [L, D], each of length 1.
        scale: What the cosines are multiplied with.

    Returns:
        fp32 [L].
    """
    return scores(scale * (labels.astype(np.float64) @ picture.astype(np.float64)), "softmax")

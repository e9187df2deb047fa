"""Logits to scores, as transformers' text-classification pipeline computes them."""

import numpy as np
from numpy.typing import NDArray


def scores(logits: NDArray[np.float32], *, multi_label: bool) -> NDArray[np.float32]:
    """Softmax over the labels, or a sigmoid of each where they do not exclude each other.

    Args:
        logits: [B, labels].
        multi_label: Whether a text may have several labels.

    Returns:
        fp32 [B, labels].
    """
    values = logits.astype(np.float64)
    if multi_label:
        result = 1.0 / (1.0 + np.exp(-np.clip(values, -500, 500)))
    else:
        raised = np.exp(values - values.max(axis=-1, keepdims=True))
        result = raised / raised.sum(axis=-1, keepdims=True)
    return result.astype(np.float32)

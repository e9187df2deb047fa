"""Logits to scores, as transformers' classification pipelines compute them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def scores(logits: NDArray[np.floating[Any]], function: str) -> NDArray[np.float32]:
    """Scores of the labels.

    Args:
        logits: [..., labels].
        function: `softmax` over the labels; `sigmoid` of each, where they do not exclude each
            other; `none`: the logits themselves, of a regression.

    Returns:
        fp32 [..., labels].
    """
    if function == "none":
        return logits.astype(np.float32)
    values = logits.astype(np.float64)
    if function == "sigmoid":
        result = 1.0 / (1.0 + np.exp(-np.clip(values, -500, 500)))
    else:
        raised = np.exp(values - values.max(axis=-1, keepdims=True))
        result = raised / raised.sum(axis=-1, keepdims=True)
    return result.astype(np.float32)


def ranked(found: NDArray[np.float32], top_k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Places and scores of the best `top_k` of each row, the best first: [B, top_k]."""
    order = np.argsort(-found, axis=-1, kind="stable")[:, :top_k]
    return order, np.ascontiguousarray(np.take_along_axis(found, order, axis=-1))

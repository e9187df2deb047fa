"""Drafts for speculative decoding, by prompt lookup.

What followed the last earlier occurrence of the newest tokens is guessed to follow again:
https://github.com/apoorvumang/prompt-lookup-decoding
"""

import numpy as np
from numpy.typing import NDArray

_LONGEST = 3


def prompt_lookup(history: NDArray[np.int64], count: int) -> list[int]:
    """Tokens that may come next.

    Args:
        history: int64 [T], prompt and answer so far.
        count: Most tokens to guess.

    Returns:
        At most `count` tokens; none where nothing was repeated.
    """
    for size in range(min(_LONGEST, history.size - 1), 0, -1):
        windows = np.lib.stride_tricks.sliding_window_view(history[:-1], size)
        places = np.flatnonzero((windows == history[-size:]).all(axis=1))
        if places.size:
            start = int(places[-1]) + size
            return [int(token) for token in history[start : start + count]]
    return []

"""Prompt prefixes that are computed once.

What a chat format puts before the picture is the same in every request. Its keys and values stay in
a row of their own; a newcomer takes a copy (25 KB a token at Qwen2-0.5B's size: well below a
millisecond for a chat template) in the place of the computation.
"""

import numpy as np
from numpy.typing import NDArray

from .cache import KvCache


class SharedPrefix:
    """The text before the first visual token of the last request, in one row of the cache."""

    def __init__(self, cache: KvCache, row: int) -> None:
        self._cache = cache
        self._row = row
        self._ids = np.empty(0, dtype=np.int64)

    def take(self, ids: NDArray[np.int64], row: int) -> int:
        """Copy what is shared into a row that is empty.

        Args:
            ids: int64 [T], the text that a prompt starts with.
            row: Where the prompt goes.

        Returns:
            Tokens that need not be computed.
        """
        size = min(ids.size, self._ids.size)
        differ = np.flatnonzero(ids[:size] != self._ids[:size])
        shared = int(differ[0]) if differ.size else size
        if shared:
            self._cache.copy(self._row, row, shared)
        return shared

    def keep(self, ids: NDArray[np.int64], row: int) -> None:
        """Remember the text that a prompt starts with, once it is computed.

        Args:
            ids: int64 [T], the text.
            row: Where its keys and values are.
        """
        if not ids.size or np.array_equal(ids, self._ids):
            return
        self._cache.release(self._row)
        self._ids = ids[:0]
        if self._cache.reserve(self._row, ids.size):
            self._cache.copy(row, self._row, ids.size)
            self._ids = ids.copy()

    def drop(self) -> bool:
        """Give the memory back; False where there was none."""
        held = self._ids.size > 0
        self._cache.release(self._row)
        self._ids = self._ids[:0]
        return held

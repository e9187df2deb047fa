"""Texts to token ids, padded to the smallest bucket that fits."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

_BYTES_PER_TOKEN = 256
"""Longer texts are cut before they are tokenized: no tokenizing of megabytes."""


class TextError(ValueError):
    """A text can't be used; the message is for the client."""


class TextEncoder:
    """Encodes texts; those of one call share a length, that of the smallest bucket that fits."""

    def __init__(
        self, tokenizer: Tokenizer, buckets: Sequence[int], pad_token_id: int, *, truncate: bool
    ) -> None:
        """Set a tokenizer up.

        Args:
            tokenizer: The tokenizer; becomes this encoder's own.
            buckets: Lengths in tokens, ascending; the last is the longest text.
            pad_token_id: What short texts are padded with.
            truncate: Cut longer texts; False: refuse them.
        """
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        if truncate:
            self._tokenizer.enable_truncation(max_length=buckets[-1])
        self._buckets = tuple(buckets)
        self._pad = pad_token_id
        self._truncate = truncate

    def ids(self, text: str) -> list[int]:
        """Ids of one text, special tokens included.

        Raises:
            TextError: too long, and not to be cut.
        """
        longest = self._buckets[-1]
        if len(text) > _BYTES_PER_TOKEN * longest:
            if not self._truncate:
                raise TextError(f"TEXT has {len(text)} characters; at most {longest} tokens fit")
            text = text[: _BYTES_PER_TOKEN * longest]
        ids: list[int] = self._tokenizer.encode(text).ids
        if len(ids) > longest:
            raise TextError(f"TEXT has {len(ids)} tokens; at most {longest} are allowed")
        return ids

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids and mask, int64 [B, bucket].

        Raises:
            TextError: a text is too long, and not to be cut.
        """
        rows = [self.ids(text) for text in texts]
        longest = max((len(row) for row in rows), default=0)
        width = next(bucket for bucket in self._buckets if bucket >= longest)
        ids = np.full((len(rows), width), self._pad, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        return ids, mask

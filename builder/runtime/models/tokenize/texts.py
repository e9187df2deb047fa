"""Texts to token ids, padded to the smallest bucket that fits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Lone:
    """What stands for a text without tokens: one padding token, which counts.

    A row in which no token counts has nothing to attend to: its answer would be NaN, or that of
    another row.
    """

    ids: list[int]
    type_ids: tuple[int, ...] = (0,)
    special_tokens_mask: tuple[int, ...] = (1,)
    offsets: tuple[tuple[int, int], ...] = ((0, 0),)


Row = Encoding | Lone

_BYTES_PER_TOKEN = 256
"""Longer texts are cut before they are tokenized: no tokenizing of megabytes."""


class TextError(ValueError):
    """A text can't be used; the message is for the client."""


def decoded_texts(values: NDArray[Any], name: str) -> list[str]:
    """Texts of an input, flattened.

    Args:
        values: Bytes, of any shape.
        name: The input's, for an error.

    Raises:
        TextError: a text is not UTF-8.
    """
    try:
        return [item.decode("utf-8") for item in values.reshape(-1)]
    except UnicodeDecodeError as error:
        raise TextError(f"{name} is not valid UTF-8 (byte {error.start})") from error


def padded(rows: Sequence[Row], width: int, pad_token_id: int) -> dict[str, NDArray[np.int64]]:
    """Encodings as one batch.

    Returns:
        `input_ids`, `attention_mask`, `token_type_ids`: int64 [B, width].
    """
    shape = (len(rows), width)
    ids = np.full(shape, pad_token_id, dtype=np.int64)
    mask, types = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for index, row in enumerate(rows):
        length = len(row.ids)
        ids[index, :length] = row.ids
        mask[index, :length] = 1
        types[index, :length] = row.type_ids
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


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

    def encoding(self, text: str, pair: str | None = None) -> Row:
        """One text, or a text and its pair, special tokens included.

        A tokenizer that adds no special tokens (GPT-2's, Qwen's) gives none for an empty text.

        Raises:
            TextError: too long, and not to be cut.
        """
        longest = self._buckets[-1]
        first = self._bounded("TEXT", text)
        second = None if pair is None else self._bounded("TEXT_PAIR", pair)
        encoding = self._tokenizer.encode(first, second)
        if len(encoding.ids) > longest:
            name = "TEXT" if pair is None else "TEXT with TEXT_PAIR"
            raise TextError(f"{name} has {len(encoding.ids)} tokens; at most {longest} are allowed")
        return encoding if encoding.ids else Lone([self._pad])

    def _bounded(self, name: str, text: str) -> str:
        longest = self._buckets[-1]
        if len(text) <= _BYTES_PER_TOKEN * longest:
            return text
        if not self._truncate:
            raise TextError(f"{name} has {len(text)} characters; at most {longest} tokens fit")
        return text[: _BYTES_PER_TOKEN * longest]

    def tensors(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Tensors:
        """What a graph, and the stage behind it, may want of some texts.

        Args:
            texts: The texts.
            pairs: A second text for each; an empty one is none, as to transformers' tokenizers.

        Returns:
            `input_ids`, `attention_mask`, `token_type_ids`: int64 [B, bucket]; `offsets`: int32
            [B, bucket, 2], the characters of a token, -1 for special tokens and padding.

        Raises:
            TextError: a text is too long, and not to be cut.
        """
        seconds = [pair or None for pair in pairs] if pairs is not None else [None] * len(texts)
        rows = [self.encoding(*row) for row in zip(texts, seconds, strict=True)]
        return self.pad(rows)

    def pad(self, rows: Sequence[Row]) -> Tensors:
        """As `tensors`, of texts that are tokenized already."""
        longest = max((len(row.ids) for row in rows), default=0)
        width = next(bucket for bucket in self._buckets if bucket >= longest)
        offsets = np.full((len(rows), width, 2), -1, dtype=np.int32)
        for index, row in enumerate(rows):
            special = np.array(row.special_tokens_mask, dtype=bool)[:, None]
            offsets[index, : len(row.ids)] = np.where(special, -1, np.reshape(row.offsets, (-1, 2)))
        return {**padded(rows, width, self._pad), "offsets": offsets}

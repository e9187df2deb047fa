"""Questions and contexts to windows of token ids: a long context becomes several windows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from .texts import Tensors, TextEncoder, TextError

_BYTES_PER_TOKEN = 256


class WindowEncoder:
    """Encodes as transformers' question-answering pipeline: overlapping windows of the context.

    https://github.com/huggingface/transformers/blob/v4.57.6/src/transformers/pipelines/question_answering.py
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        buckets: Sequence[int],
        pad_token_id: int,
        *,
        truncate: bool,
        stride: int,
        max_windows: int,
        cls_token_id: int | None,
    ) -> None:
        """Set a tokenizer up.

        Args:
            tokenizer: The tokenizer; becomes this encoder's own.
            buckets: Lengths in tokens, ascending; the last is the longest window.
            pad_token_id: What short windows are padded with.
            truncate: Leave out windows over `max_windows`; False: refuse such a context.
            stride: Tokens that two neighbouring windows share.
            max_windows: Most windows of one context.
            cls_token_id: A token that stands for no answer; None: there is none.
        """
        self._pad = TextEncoder(tokenizer, buckets, pad_token_id, truncate=False).pad
        self._tokenizer = tokenizer
        tokenizer.enable_truncation(buckets[-1], stride=stride, strategy="only_second")
        self._longest = buckets[-1]
        self._stride = stride
        self._max_windows = max_windows
        self._truncate = truncate
        self._cls = cls_token_id

    def windows(self, question: str, context: str) -> list[Encoding]:
        """The windows of one context, each with the whole question before it.

        Raises:
            TextError: empty, or too long.
        """
        for name, text in (("QUESTION", question), ("CONTEXT", context)):
            if not text.strip():
                raise TextError(f"{name} is empty")
        if len(question) > _BYTES_PER_TOKEN * self._longest:
            raise TextError(f"QUESTION has {len(question)} characters; it must fit a window")
        bound = _BYTES_PER_TOKEN * self._longest * self._max_windows
        if len(context) > bound:
            if not self._truncate:
                raise TextError(f"CONTEXT has {len(context)} characters; at most {bound} can fit")
            context = context[:bound]
        try:
            first = self._tokenizer.encode(question, context)
        except Exception as error:  # tokenizers raises nothing narrower
            raise TextError(
                f"QUESTION is too long: it leaves less than {self._stride + 1} of {self._longest} "
                "tokens of a window for CONTEXT"
            ) from error
        found = [first, *first.overflowing]
        if len(found) > self._max_windows:
            if not self._truncate:
                raise TextError(
                    f"CONTEXT needs {len(found)} windows of {self._longest} tokens; at most "
                    f"{self._max_windows} are allowed"
                )
            found = found[: self._max_windows]
        return found

    def tensors(self, questions: Sequence[str], contexts: Sequence[str] | None) -> Tensors:
        """Windows, W a row: as many as the longest context of the call has.

        Returns:
            `input_ids`, `attention_mask`, `token_type_ids`: int64 [B, W, bucket]; `answerable`:
            int32 [B, W, bucket], 1 for tokens that may be in the answer (the CLS token among
            them); `offsets`: int32 [B, W, bucket, 2]: the characters of the word of the context
            that a token belongs to, -1 where it is not of the context.

        Raises:
            TextError: a text can't be used.
        """
        pairs = zip(questions, contexts or (), strict=True)
        rows = [self.windows(question, context) for question, context in pairs]
        most = max(map(len, rows), default=0)
        # A row with fewer windows repeats its first one, in which then nothing is answerable:
        # a window of padding alone would be a softmax over nothing.
        filled = [row + [row[0]] * (most - len(row)) for row in rows]
        flat = [window for row in filled for window in row]
        found = self._pad(flat)
        offsets = found["offsets"]
        answerable = np.zeros(offsets.shape[:2], dtype=np.int32)
        offsets[:] = -1
        for index, window in enumerate(flat):
            row, place = divmod(index, most)
            if place < len(rows[row]):
                self._mark(window, offsets[index], answerable[index])
        found["answerable"] = answerable
        return {
            name: value.reshape(len(rows), most, *value.shape[1:]) for name, value in found.items()
        }

    def _mark(self, window: Encoding, offsets: NDArray[Any], answerable: NDArray[Any]) -> None:
        for place, sequence in enumerate(window.sequence_ids):
            if sequence == 1:
                answerable[place] = 1
                word = window.token_to_word(place)
                span = None if word is None else window.word_to_chars(word, 1)
                offsets[place] = span or window.offsets[place]
            elif window.ids[place] == self._cls:
                answerable[place] = 1

"""What a checkpoint's generation config rules out or forces, as transformers' logits processors."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rules:
    """Rules of a checkpoint; see `transformers.GenerationConfig` for each.

    Attributes:
        start: Tokens that a decoder starts with.
        detect: Ids of which the likeliest comes next: languages; none: nothing is detected.
        follow: Tokens behind that one, before the answer.
        end: Ids that end an answer.
        suppress: Ids that never come.
        begin_suppress: Ids that do not come first.
        forced_bos: The first token; None: any.
        forced_eos: The last token where an answer reaches its length; None: any.
        min_new_tokens: Tokens before an end.
        no_repeat_ngram: n-grams of this size come once; 0: off.
    """

    start: tuple[int, ...]
    end: tuple[int, ...]
    detect: tuple[int, ...] = ()
    follow: tuple[int, ...] = ()
    suppress: tuple[int, ...] = ()
    begin_suppress: tuple[int, ...] = ()
    forced_bos: int | None = None
    forced_eos: int | None = None
    min_new_tokens: int = 0
    no_repeat_ngram: int = 0

    def apply(
        self, logits: NDArray[np.float32], prompt: list[int], tokens: list[int], max_tokens: int
    ) -> NDArray[np.float32]:
        """Logits of the next token.

        Args:
            logits: fp32 [V], not changed.
            prompt: What the decoder started with.
            tokens: The answer so far.
            max_tokens: Of this answer.
        """
        forced = self.forced_bos if not tokens else None
        if self.forced_eos is not None and len(tokens) == max_tokens - 1:
            forced = self.forced_eos
        if forced is not None:
            only = np.full_like(logits, -np.inf)
            only[forced] = 0.0
            return only
        banned = [*self.suppress]
        if not tokens:
            banned += self.begin_suppress
        if len(tokens) < self.min_new_tokens:
            banned += self.end
        if self.no_repeat_ngram:
            banned += _repeats([*prompt, *tokens], self.no_repeat_ngram)
        if not banned:
            return logits
        allowed = logits.copy()
        allowed[banned] = -np.inf
        return allowed


def _repeats(tokens: list[int], size: int) -> list[int]:
    """Tokens that would complete an n-gram which is there already."""
    if len(tokens) + 1 < size:
        return []
    tail = tokens[len(tokens) - size + 1 :]
    places = range(len(tokens) - size + 1)
    return [tokens[at + size - 1] for at in places if tokens[at : at + size - 1] == tail]

"""Start and end logits to answers, as transformers' question-answering pipeline makes them.

The functions are those of transformers 4.57.6, src/transformers/pipelines/question_answering.py,
the last release with that pipeline.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Answer:
    """A span of the context.

    Attributes:
        text: The span; empty: no answer.
        score: 0 to 1; that of equal texts is summed.
        start: Its first character (Unicode code points).
        end: The character behind its last.
    """

    text: str
    score: float
    start: int
    end: int


def _probabilities(logits: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    values = np.where(mask, logits, np.float32(-10000.0))
    raised = np.exp(values - values.max())
    found: NDArray[np.float32] = raised / raised.sum()
    return found


def answers(
    context: str,
    start: NDArray[np.float32],
    end: NDArray[np.float32],
    answerable: NDArray[np.int32],
    offsets: NDArray[np.int32],
    *,
    top_k: int,
    max_tokens: int,
    impossible: bool,
) -> list[Answer]:
    """The best answers, the best first; fewer than `top_k` where there are no more.

    Args:
        context: The text.
        start: [W, S] start logits of the windows.
        end: [W, S] end logits.
        answerable: [W, S], 1 for tokens that may be in the answer; none of a window that is
            only filled up.
        offsets: [W, S, 2], characters of each token's word; -1 outside of the context.
        top_k: Most answers.
        max_tokens: Longest answer.
        impossible: Whether there may be no answer.
    """
    found: dict[str, Answer] = {}
    null_score = 1_000_000.0
    for window in range(start.shape[0]):
        mask = answerable[window].astype(bool)
        if not mask.any():
            continue
        starts = _probabilities(start[window], mask)
        ends = _probabilities(end[window], mask)
        if impossible:
            null_score = min(null_score, float(starts[0] * ends[0]))
        starts[0] = ends[0] = 0.0
        # As many candidates as transformers takes where answers are whole words.
        for first, last, score in _spans(starts, ends, top_k * 2 + 10, max_tokens, mask):
            begin, stop = int(offsets[window, first, 0]), int(offsets[window, last, 1])
            if begin < 0 or stop < 0:
                begin = stop = 0
            key = context[begin:stop].lower()
            seen = found.get(key)
            if seen is None:
                found[key] = Answer(context[begin:stop], score, begin, stop)
            else:
                found[key] = Answer(seen.text, seen.score + score, seen.start, seen.end)
    ranked = list(found.values())
    if impossible:
        ranked.append(Answer("", null_score, 0, 0))
    return sorted(ranked, key=lambda answer: -answer.score)[:top_k]


def _spans(
    starts: NDArray[np.float32],
    ends: NDArray[np.float32],
    count: int,
    max_tokens: int,
    mask: NDArray[np.bool_],
) -> list[tuple[int, int, float]]:
    """The `count` best spans of one window (first token, last token, score), the best first."""
    scores = np.tril(np.triu(np.outer(starts, ends)), max_tokens - 1)
    flat = scores.ravel()
    if len(flat) <= count:
        order = np.argsort(-flat)
    else:
        best = np.argpartition(-flat, count)[:count]
        order = best[np.argsort(-flat[best])]
    firsts, lasts = np.unravel_index(order, scores.shape)
    allowed = mask[firsts] & mask[lasts]
    return [
        (int(first), int(last), float(scores[first, last]))
        for first, last in zip(firsts[allowed], lasts[allowed], strict=True)
    ]

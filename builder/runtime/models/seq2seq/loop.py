"""The answers of a batch: every row is sampled on its own and leaves when it is done."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..language.options import GenerationOptions
from ..language.sampler import Sampler
from .rules import Rules
from .steps import CachedDecoder


@dataclass
class Row:
    """One answer as it grows."""

    options: GenerationOptions
    sampler: Sampler
    tokens: list[int] = field(default_factory=list)
    reason: str = ""


def generate(
    decoder: CachedDecoder,
    rules: Rules,
    states: NDArray[np.float32],
    mask: NDArray[np.int64] | None,
    options: list[GenerationOptions],
) -> list[Row]:
    """Answer every row.

    Args:
        decoder: The graphs.
        rules: Of the checkpoint.
        states: The encoder's, fp32 [B, S, D].
        mask: int64 [B, S]; None: all of the states count.
        options: Of each row.
    """
    start = np.array(rules.start, dtype=np.int64)
    rows = [Row(each, Sampler(each, start)) for each in options]
    running = list(range(len(rows)))
    batch = decoder.start(states, mask)
    for token in rules.start:
        logits = decoder.step(batch, np.full(len(rows), token, dtype=np.int64))
    while True:
        for place, index in enumerate(running):
            _take(rows[index], logits[place], rules)
        kept = [place for place, index in enumerate(running) if not rows[index].reason]
        if not kept:
            return rows
        if len(kept) < len(running):
            decoder.keep(batch, kept)
            running = [running[place] for place in kept]
        last = np.array([rows[index].tokens[-1] for index in running], dtype=np.int64)
        logits = decoder.step(batch, last)


def _take(row: Row, logits: NDArray[np.float32], rules: Rules) -> None:
    limit = row.options.max_tokens
    token = row.sampler(rules.apply(logits, row.tokens, limit))
    row.tokens.append(token)
    if token in rules.end:
        row.reason = "stop"
    elif len(row.tokens) >= limit:
        row.reason = "length"

"""The answers of a batch: every row is sampled on its own and leaves when it is done."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..language.options import GenerationOptions
from ..language.sampler import Sampler
from .rules import Rules
from .steps import Batch, CachedDecoder


@dataclass
class Row:
    """One answer as it grows, behind the tokens that the decoder started with."""

    options: GenerationOptions
    prompt: list[int]
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
    batch = decoder.start(states, mask)
    logits, prompts = _opening(decoder, batch, rules, len(options))
    rows = [
        Row(each, prompt, Sampler(each, np.array(prompt, dtype=np.int64)))
        for each, prompt in zip(options, prompts, strict=True)
    ]
    running = list(range(len(rows)))
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


def _opening(
    decoder: CachedDecoder, batch: Batch, rules: Rules, count: int
) -> tuple[NDArray[np.float32], list[list[int]]]:
    """Logits behind what the decoder starts with, and that for each row."""
    prompts: list[list[int]] = [[] for _ in range(count)]

    def feed(tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        for prompt, token in zip(prompts, tokens.tolist(), strict=True):
            prompt.append(token)
        return decoder.step(batch, tokens)

    for token in rules.start:
        logits = feed(np.full(count, token, dtype=np.int64))
    if rules.detect:
        known = np.array(rules.detect, dtype=np.int64)
        logits = feed(known[logits[:, known].argmax(axis=-1)])
    for token in rules.follow:
        logits = feed(np.full(count, token, dtype=np.int64))
    return logits, prompts


def _take(row: Row, logits: NDArray[np.float32], rules: Rules) -> None:
    limit = row.options.max_tokens
    token = row.sampler(rules.apply(logits, row.prompt, row.tokens, limit))
    row.tokens.append(token)
    if token in rules.end:
        row.reason = "stop"
    elif len(row.tokens) >= limit:
        row.reason = "length"

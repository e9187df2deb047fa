"""One request on its way through the engine."""

import time
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .options import GenerationOptions
from .positions import Sequence
from .sampler import Sampler
from .text import TextStream


@dataclass
class Piece:
    """Text that can be shown, and the tokens behind it."""

    text: str = ""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Summary:
    """How an answer ended and what it took.

    Attributes:
        reason: `stop`, `length`, `cancelled` or `timeout`.
        completion_tokens: Tokens generated, the end token included.
        shared_tokens: Prompt tokens whose keys and values were there already.
        drafted: Tokens that were guessed ahead.
        accepted: Those of them that were right.
        queue_ms: Milliseconds until the prefill began.
        first_token_ms: Milliseconds until the first token; 0 where there was none.
        total_ms: Milliseconds until the end.
    """

    reason: str
    completion_tokens: int
    shared_tokens: int
    drafted: int
    accepted: int
    queue_ms: float
    first_token_ms: float
    total_ms: float


class Sink(Protocol):
    """Where an answer goes."""

    def send(self, piece: Piece) -> None:
        """Take a piece of the answer."""

    def finish(self, piece: Piece, summary: Summary) -> None:
        """Take the rest and the summary; nothing follows."""

    def fail(self, message: str) -> None:
        """Take an error; nothing follows."""

    def is_cancelled(self) -> bool:
        """Whether the client has gone away."""


def _milliseconds(start: float, end: float) -> float:
    return round((end - start) * 1000.0, 3) if end else 0.0


@dataclass(eq=False)
class Generation:
    """A prompt, its answer so far, and how much of both is in the cache."""

    sequence: Sequence
    embeds: NDArray[np.float32]
    options: GenerationOptions
    sink: Sink
    text: TextStream
    tokens: list[int] = field(default_factory=list)
    cached: int = 0
    shared: int = 0
    drafted: int = 0
    accepted: int = 0
    arrived: float = field(default_factory=time.monotonic)
    started: float = 0.0
    first: float = 0.0
    unsent: Piece = field(default_factory=Piece)
    _sampler: Sampler = field(init=False)

    def __post_init__(self) -> None:
        """Give the request a random stream of its own."""
        self._sampler = Sampler(self.options, self.sequence.input_ids)

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt, visual ones included."""
        return int(self.sequence.input_ids.size)

    @property
    def length(self) -> int:
        """Tokens of prompt and answer."""
        return self.prompt_length + len(self.tokens)

    def opening(self) -> NDArray[np.int64]:
        """Text int64 [T] before the first picture: what prompts may have in common.

        A picture of which no token is kept still moves the positions of the text behind it.
        """
        mask = self.sequence.visual_mask
        apart = mask | (self.sequence.position_ids[0] != np.arange(mask.size))
        size = int(apart.argmax()) if apart.any() else mask.size
        return self.sequence.input_ids[:size]

    def ids(self, start: int, end: int) -> NDArray[np.int64]:
        """Tokens int64 [S] of prompt and answer from `start` to `end`."""
        size = self.prompt_length
        answer = np.array(self.tokens[max(start - size, 0) : max(end - size, 0)], dtype=np.int64)
        return np.concatenate((self.sequence.input_ids[start:end], answer))

    def positions(self, start: int, end: int) -> NDArray[np.int64]:
        """M-RoPE positions int64 [3, S] of prompt and answer from `start` to `end`."""
        size, follow = self.prompt_length, self.sequence.next_position
        answer = np.arange(max(start - size, 0), max(end - size, 0)) + follow
        spread = np.broadcast_to(answer, (3, answer.size))
        return np.concatenate((self.sequence.position_ids[:, start:end], spread), axis=1)

    def visual(self, start: int, end: int) -> tuple[NDArray[np.bool_], NDArray[np.float32]] | None:
        """Mask [1, S] and embeddings [1, S, D] from `start` to `end`; None: all text."""
        whole = self.sequence.visual_mask
        mask = np.zeros((1, end - start), dtype=np.bool_)
        mask[0, : whole[start:end].size] = whole[start:end]
        if not mask.any():
            return None
        before = int(whole[:start].sum())
        embeds = np.zeros((1, end - start, self.embeds.shape[1]), dtype=np.float32)
        embeds[mask] = self.embeds[before : before + int(mask.sum())]
        return mask, embeds

    def ended(self) -> str | None:
        """`cancelled` or `timeout` where nobody waits for the answer any more."""
        if self.sink.is_cancelled():
            return "cancelled"
        limit = self.options.timeout_ms
        if limit and _milliseconds(self.arrived, time.monotonic()) > limit:
            return "timeout"
        return None

    def take(self, logits: NDArray[np.float32], end_tokens: frozenset[int]) -> str | None:
        """Choose the next token; return the finish reason where it is the last.

        Args:
            logits: fp32 [V].
            end_tokens: Ids that end an answer.
        """
        token = self._sampler(logits)
        if not self.tokens:
            self.first = time.monotonic()
        self.tokens.append(token)
        self.unsent.ids.append(token)
        if self.options.logprobs:
            self.unsent.logprobs.append(self._sampler.logprob)
        if token in end_tokens:
            return "stop"
        self.unsent.text += self.text.push(token)
        if self.text.stopped:
            return "stop"
        return "length" if len(self.tokens) >= self.options.max_tokens else None

    def send(self) -> None:
        """Stream the text that can be shown."""
        if self.unsent.text:
            self.sink.send(self.unsent)
            self.unsent = Piece()

    def finish(self, reason: str) -> None:
        """Send the rest and the summary."""
        self.unsent.text += self.text.finish()
        now = time.monotonic()
        summary = Summary(
            reason=reason,
            completion_tokens=len(self.tokens),
            shared_tokens=self.shared,
            drafted=self.drafted,
            accepted=self.accepted,
            queue_ms=_milliseconds(self.arrived, self.started),
            first_token_ms=_milliseconds(self.arrived, self.first),
            total_ms=_milliseconds(self.arrived, now),
        )
        self.sink.finish(self.unsent, summary)

"""Our engine over one artifact, without Triton."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._language_model import PROMPT_TOKENS, Prompt, Tokens
from builder.runtime.models.language.batcher import EXTRA_ROWS, BatcherSettings, ContinuousBatcher
from builder.runtime.models.language.decoder import Decoder
from builder.runtime.models.language.generation import Generation, Piece, Summary
from builder.runtime.models.language.options import GenerationOptions
from builder.runtime.models.language.positions import Sequence
from builder.runtime.models.language.session import SessionSettings

THREADS = 2
SLOTS = 16
CHUNK = 64


@dataclass
class Collected:
    """A sink that keeps the answer and the time of each piece."""

    tokens: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)
    summary: Summary | None = None
    error: str = ""
    cancelled: bool = False

    def send(self, piece: Piece) -> None:
        """Keep a piece."""
        self.tokens += piece.ids
        self.times.append(time.perf_counter())

    def finish(self, piece: Piece, summary: Summary) -> None:
        """Keep the rest."""
        self.send(piece)
        self.summary = summary
        self.done.set()

    def fail(self, message: str) -> None:
        """Keep the error."""
        self.error = message
        self.done.set()

    def is_cancelled(self) -> bool:
        """As told."""
        return self.cancelled


class EachToken:
    """In the place of `TextStream`: random ids have no text, and each is to be sent at once."""

    stopped = False

    def push(self, token: int) -> str:
        """Something to send."""
        return "x"

    def finish(self) -> str:
        """Nothing is held back."""
        return ""


class Ours:
    """An engine over one artifact."""

    def __init__(self, path: Path, *, chunk: int = CHUNK, draft: int = 0) -> None:
        """Load it."""
        self.decoder = Decoder(
            path, SLOTS + EXTRA_ROWS, PROMPT_TOKENS + 256, SessionSettings(THREADS)
        )
        settings = BatcherSettings(SLOTS, prefill_chunk=chunk, draft_tokens=draft)
        self.engine = ContinuousBatcher(self.decoder, [], settings, print)

    def submit(self, prompt: Prompt, max_tokens: int | None = None) -> Collected:
        """Send a request."""
        return self.send(prompt.sequence, prompt.embeds, max_tokens or prompt.max_tokens)

    def send(self, sequence: Sequence, embeds: NDArray[np.float32], max_tokens: int) -> Collected:
        """Send a prompt as the engine takes it."""
        sink, options = Collected(), GenerationOptions(max_tokens, 64)
        text: Any = EachToken()
        self.engine.submit(Generation(sequence, embeds, options, sink, text))
        return sink

    def __call__(self, prompts: list[Prompt]) -> Tokens:
        """Answer all at once."""
        sinks = [self.submit(prompt) for prompt in prompts]
        for sink in sinks:
            sink.done.wait()
            if sink.error:
                raise RuntimeError(sink.error)
        return [sink.tokens for sink in sinks]

    def close(self) -> None:
        """End the engine."""
        self.engine.stop()

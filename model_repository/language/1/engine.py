"""The generation loop: requests join and leave the running batch at every token."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .decoder import Decoder
from .options import GenerationOptions
from .positions import Sequence
from .sampler import Sampler
from .text import TextStream


class BusyError(RuntimeError):
    """The waiting line is full; the message is for the client."""


class Sink(Protocol):
    """Where an answer goes."""

    def send(self, text: str, ids: list[int]) -> None:
        """Take a piece of the answer."""

    def finish(self, text: str, ids: list[int], reason: str, completion_tokens: int) -> None:
        """Take the rest and the finish reason; nothing follows."""

    def fail(self, message: str) -> None:
        """Take an error; nothing follows."""

    def is_cancelled(self) -> bool:
        """Whether the client has gone away."""


@dataclass
class Generation:
    """One request on its way through the engine."""

    sequence: Sequence
    embeds: NDArray[np.float32]
    options: GenerationOptions
    sink: Sink
    text: TextStream
    sampler: Sampler = field(init=False)
    unsent: list[int] = field(default_factory=list)
    generated: int = 0
    last_token: int = -1

    def __post_init__(self) -> None:
        """Give the request a random stream of its own."""
        self.sampler = Sampler(self.options)

    @property
    def length(self) -> int:
        """Tokens of the prompt and the answer that are in the cache after the next step."""
        return self.sequence.input_ids.size + self.generated

    @property
    def position(self) -> int:
        """M-RoPE position of the last generated token."""
        return self.sequence.next_position + self.generated - 1


class Engine:
    """Continuous batching over the rows of a `Decoder`, in a thread of its own."""

    def __init__(
        self,
        decoder: Decoder,
        end_tokens: Iterable[int],
        max_waiting: int,
        log: Callable[[str], None],
    ) -> None:
        """Start with an empty batch.

        Args:
            decoder: The model and its cache.
            end_tokens: Ids that end an answer.
            max_waiting: Requests that may wait for a free row.
            log: Receives errors that concern no single request.
        """
        self._decoder = decoder
        self._end_tokens = frozenset(end_tokens)
        self._max_waiting = max_waiting
        self._log = log
        self._rows: list[Generation | None] = [None] * decoder.slots
        self._waiting: deque[Generation] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, generation: Generation) -> None:
        """Queue a request.

        Raises:
            BusyError: too many are waiting, or the engine stops.
        """
        with self._wake:
            if self._stopping:
                raise BusyError("the language stage is shutting down")
            if len(self._waiting) >= self._max_waiting:
                raise BusyError(
                    f"the language stage is full ({len(self._waiting)} requests wait); "
                    "try again later"
                )
            self._waiting.append(generation)
            self._wake.notify()

    def stop(self, timeout: float = 30.0) -> None:
        """Let running answers end, refuse new ones, and join the thread.

        Args:
            timeout: Seconds to wait for running answers; then they are cut off.
        """
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._running() and not self._stopping:
                    self._wake.wait()
                if self._stopping and not self._waiting and not self._running():
                    return
                newcomer = self._waiting.popleft() if self._waiting and None in self._rows else None
            # One newcomer a round: the others wait for one prefill at most between two tokens.
            if newcomer is not None:
                self._admit(newcomer)
            if self._running():
                self._step()

    def _running(self) -> bool:
        return any(self._rows)

    def _admit(self, generation: Generation) -> None:
        """Prefill the prompt into the first free row and choose its first token."""
        row = self._rows.index(None)
        sequence = generation.sequence
        try:
            if generation.sink.is_cancelled():
                self._finish(generation, "cancelled")
                return
            visual = np.zeros((1, sequence.input_ids.size, self._decoder.hidden_size), np.float32)
            visual[0, sequence.visual_mask] = generation.embeds
            logits = self._decoder.step(
                row,
                sequence.input_ids[None],
                sequence.position_ids[None],
                np.array([sequence.input_ids.size], dtype=np.int32),
                (sequence.visual_mask[None], visual),
            )
        except Exception as error:
            self._fail(generation, error)
            return
        generation.embeds = generation.embeds[:0]  # not needed any more
        self._rows[row] = generation
        self._take(row, logits[0])

    def _step(self) -> None:
        """One token for every running request."""
        count = 1 + max(i for i, generation in enumerate(self._rows) if generation is not None)
        ids = np.zeros((count, 1), dtype=np.int64)
        positions = np.zeros((count, 3, 1), dtype=np.int64)
        lengths = np.ones(count, dtype=np.int32)  # an empty row writes to its own first place
        for i, generation in enumerate(self._rows[:count]):
            if generation is not None:
                ids[i] = generation.last_token
                positions[i] = generation.position
                lengths[i] = generation.length
        try:
            logits = self._decoder.step(0, ids, positions, lengths)
        except Exception as error:
            for i, generation in enumerate(self._rows):
                self._rows[i] = None
                if generation is not None:
                    self._fail(generation, error)
            return
        for i in range(count):
            if self._rows[i] is not None:
                self._take(i, logits[i])
        if self._decoder.can_move:
            self._compact()

    def _take(self, row: int, logits: NDArray[np.float32]) -> None:
        """Choose a token for a row; free the row where the answer ends.

        A failure (a client that is gone, say) ends this request alone.
        """
        generation = self._rows[row]
        assert generation is not None
        try:
            goes_on = self._advance(generation, logits)
        except Exception as error:
            self._fail(generation, error)
            goes_on = False
        if not goes_on:
            self._rows[row] = None

    def _fail(self, generation: Generation, error: Exception) -> None:
        """End a request with an error; the client may be gone by now."""
        self._log(f"a request failed: {error}")
        try:
            generation.sink.fail(f"the language stage failed: {error}")
        except Exception as second:
            self._log(f"its error could not be sent: {second}")

    def _advance(self, generation: Generation, logits: NDArray[np.float32]) -> bool:
        """Take one token; return whether the answer goes on."""
        if generation.sink.is_cancelled():
            self._finish(generation, "cancelled")
            return False
        token = generation.sampler(logits)
        generation.last_token = token
        generation.generated += 1
        generation.unsent.append(token)
        if token in self._end_tokens:
            self._finish(generation, "stop")
            return False
        text = generation.text.push(token)
        if generation.text.stopped:
            self._finish(generation, "stop", text)
            return False
        # The next step would need a place behind the cache's end.
        full = generation.length > self._decoder.max_length
        if generation.generated >= generation.options.max_tokens or full:
            self._finish(generation, "length", text)
            return False
        if text:
            generation.sink.send(text, generation.unsent)
            generation.unsent = []
        return True

    def _finish(self, generation: Generation, reason: str, text: str = "") -> None:
        rest = text + generation.text.finish()
        generation.sink.finish(rest, generation.unsent, reason, generation.generated)

    def _compact(self) -> None:
        """Close the holes so that a step never computes an empty row."""
        for target, generation in enumerate(self._rows):
            if generation is not None:
                continue
            source = max((i for i, g in enumerate(self._rows) if g is not None), default=-1)
            if source < target:
                return
            moved = self._rows[source]
            assert moved is not None
            self._decoder.move(source, target, moved.length - 1)
            self._rows[target], self._rows[source] = moved, None

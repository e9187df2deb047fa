"""The generation loop: requests join and leave the running batch at every token."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .decoder import Decoder
from .drafts import prompt_lookup
from .generation import Generation
from .metrics import BatcherStats
from .prefix import SharedPrefix

EXTRA_ROWS = 2
"""Rows of the cache beside the slots: one where a prompt is prefilled, one for the prefix."""

_NEWEST_SHARE = 0.1
"""How much the newest answer says of the seconds that one takes."""

_LINE_PERIOD = 0.1
"""Seconds between two looks for clients that left the line: each costs a message to the server."""


class BusyError(RuntimeError):
    """The waiting line is full; the message is for the client."""


@dataclass(frozen=True)
class BatcherSettings:
    """How the engine schedules.

    Attributes:
        slots: Requests that are answered at the same time.
        max_waiting: Requests that may wait for a slot.
        prefill_chunk: Prompt tokens between two tokens of the others; 0: the whole prompt.
        draft_tokens: Tokens guessed ahead while one request runs alone; 0: none.
    """

    slots: int
    max_waiting: int = 256
    prefill_chunk: int = 0
    draft_tokens: int = 0


class ContinuousBatcher:
    """Continuous batching over the rows of a `Decoder`, in a thread of its own.

    Row i of the cache belongs to the i-th running request, so a step never computes an empty row.
    One prompt at a time is prefilled in a row behind the slots and moved when it is ready. When no
    block of the cache is free, the newest request gives its own back and is computed again later.
    """

    def __init__(
        self,
        decoder: Decoder,
        end_tokens: Iterable[int],
        settings: BatcherSettings,
        log: Callable[[str], None],
        report: Callable[[BatcherStats], None] = lambda stats: None,
    ) -> None:
        """Start with an empty batch.

        Args:
            decoder: The model and its cache of `slots + EXTRA_ROWS` rows.
            end_tokens: Ids that end an answer.
            settings: How to schedule.
            log: Receives errors that concern no single request.
            report: Receives the state after each round, in the engine's thread.
        """
        if decoder.cache.total_blocks < decoder.cache.blocks_for(decoder.cache.max_length):
            raise ValueError("the KV cache must hold one request of full length at least")
        self._decoder = decoder
        self._cache = decoder.cache
        self._end_tokens = frozenset(end_tokens)
        self._settings = settings
        self._log = log
        self._report = report
        self._prefix = SharedPrefix(self._cache, settings.slots + 1)
        self._stage = settings.slots
        self._running: list[Generation] = []
        self._joining: Generation | None = None
        self._waiting: deque[Generation] = deque()
        self._line_checked = 0.0
        self._answer_seconds = 1.0
        self._wake = threading.Condition()
        self._stopping = False
        self.stats = BatcherStats(blocks_total=self._cache.total_blocks)
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
            if len(self._waiting) >= self._settings.max_waiting:
                raise BusyError(
                    f"the language stage is full ({len(self._waiting)} requests wait); "
                    f"try again in about {self._retry_seconds()} s"
                )
            self._waiting.append(generation)
            self._wake.notify()

    @property
    def alive(self) -> bool:
        """Whether requests are still answered: its thread runs, and is not to end."""
        return self._thread.is_alive() and not self._stopping

    def _retry_seconds(self) -> int:
        """Seconds until half of the line has gone, as fast as the last answers went."""
        line = len(self._waiting) / (2.0 * self._settings.slots)
        return max(1, math.ceil(line * self._answer_seconds))

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
        while self._wait():
            self._drop_ended()
            self._join()
            if self._joining is not None:
                self._prefill(self._joining)
            if self._running:
                self._decode()
            self._count()
        self._prefix.drop()
        self._count()

    def _wait(self) -> bool:
        """Sleep until there is work; False where the engine is to end."""
        with self._wake:
            while not (self._waiting or self._running or self._joining):
                if self._stopping:
                    return False
                self._wake.wait()
            return True

    def _drop_ended(self) -> None:
        """Free what nobody waits for: clients that went away, answers out of time."""
        for row in reversed(range(len(self._running))):
            if (reason := self._ended(self._running[row])) is not None:
                self._finish(self._leave(row), reason)
        if self._joining is not None and (reason := self._ended(self._joining)) is not None:
            joining, self._joining = self._joining, None
            self._cache.release(self._stage)
            self._finish(joining, reason)
        now = time.monotonic()
        if now < self._line_checked + _LINE_PERIOD:
            return
        self._line_checked = now
        with self._wake:
            line = list(self._waiting)
        for generation in line:
            if (reason := self._ended(generation)) is not None:
                with self._wake:
                    self._waiting.remove(generation)
                self._finish(generation, reason)

    def _ended(self, generation: Generation) -> str | None:
        try:
            return generation.ended()
        except Exception as error:
            self._log(f"a client can't be asked whether it is there: {error}")
            return "cancelled"

    def _join(self) -> None:
        """Take the first of the line where a slot and the blocks for it are free."""
        if self._joining is not None or len(self._running) >= self._settings.slots:
            return
        with self._wake:
            if not self._waiting:
                return
            length = self._waiting[0].length
            if not self._cache.reserve(self._stage, length) and not (
                # Nobody will give blocks back: the prefix has to.
                not self._running
                and self._prefix.drop()
                and self._cache.reserve(self._stage, length)
            ):
                return
            generation = self._waiting.popleft()
        if (reason := self._ended(generation)) is not None:  # since the last look at the line
            self._cache.release(self._stage)
            self._finish(generation, reason)
            return
        generation.started = generation.started or time.monotonic()
        shared = self._prefix.take(generation.opening(), self._stage)
        # The last token is computed in any case: its logits are needed.
        generation.cached = min(shared, generation.length - 1)
        generation.shared = generation.cached
        self._joining = generation

    def _prefill(self, generation: Generation) -> None:
        """Compute the next chunk of the newcomer; behind the last one it runs with the others."""
        start, end = generation.cached, generation.length
        if self._running and self._settings.prefill_chunk:
            end = min(end, start + self._settings.prefill_chunk)
        try:
            logits = self._decoder.step(
                self._stage,
                generation.ids(start, end)[None],
                generation.positions(start, end)[None],
                np.array([end], dtype=np.int32),
                generation.visual(start, end),
            )
        except Exception as error:
            self._joining = None
            self._cache.release(self._stage)
            self._fail(generation, error)
            return
        generation.cached = end
        if end < generation.length:
            return
        self._prefix.keep(generation.opening(), self._stage)
        self._joining = None
        self._cache.move(self._stage, len(self._running), end)
        self._running.append(generation)
        self._take(len(self._running) - 1, logits[0])

    def _decode(self) -> None:
        """One token for every running request, or several verified for a lone one."""
        while self._make_room():
            pass
        running = self._running
        assert running  # the cache holds one request of full length at least
        draft = self._draft()
        length = 1 + len(draft)
        ids = np.empty((len(running), length), dtype=np.int64)
        positions = np.empty((len(running), 3, length), dtype=np.int64)
        for row, generation in enumerate(running):
            ids[row] = [generation.tokens[-1], *draft]
            last = generation.sequence.next_position + len(generation.tokens) - 1
            positions[row] = np.arange(last, last + length)
        lengths = np.array([g.cached + length for g in running], dtype=np.int32)
        try:
            logits = self._decoder.step(0, ids, positions, lengths, wanted=length)
        except Exception as error:
            for row in reversed(range(len(running))):
                self._fail(self._leave(row), error)
            return
        self.stats.steps += 1
        for row in reversed(range(len(running))):
            running[row].cached += 1
            self._take(row, logits[row], draft)

    def _make_room(self) -> bool:
        """Reserve the place of the next token in every row; True where one had to leave for it."""
        rows = enumerate(self._running)
        if all(self._cache.reserve(row, generation.cached + 1) for row, generation in rows):
            return False
        if self._prefix.drop():
            return True
        if self._joining is not None:  # it came last and has said nothing yet
            newest, self._joining = self._joining, None
            self._cache.release(self._stage)
        else:
            newest = self._leave(max(range(len(self._running)), key=self._arrival))
        newest.cached = 0
        self.stats.preempted += 1
        with self._wake:
            self._waiting.appendleft(newest)
        return True

    def _arrival(self, row: int) -> float:
        return self._running[row].arrived

    def _draft(self) -> list[int]:
        """Tokens to verify in this step.

        Only for a request that runs alone: GroupQueryAttention takes several tokens behind a
        cache for one sequence only, and a batch has little idle arithmetic to give.
        """
        if len(self._running) != 1 or not self._settings.draft_tokens:
            return []
        generation = self._running[0]
        left = generation.options.max_tokens - len(generation.tokens) - 1
        room = self._cache.max_length - generation.length
        count = min(self._settings.draft_tokens, left, room)
        if count < 1 or not self._cache.reserve(0, generation.length + count):
            return []
        draft = prompt_lookup(generation.ids(0, generation.length), count)
        generation.drafted += len(draft)
        self.stats.drafted += len(draft)
        return draft

    def _take(self, row: int, logits: NDArray[np.float32], draft: list[int] | None = None) -> None:
        """Choose a row's next tokens, one and as many drafts as agree; free it at the end.

        A failure (a client that is gone, say) ends this request alone.
        """
        generation = self._running[row]
        try:
            for place in range(logits.shape[0]):
                reason = generation.take(logits[place], self._end_tokens)
                self.stats.tokens += 1
                if reason is not None or place == len(draft or ()):
                    break
                if generation.tokens[-1] != (draft or [])[place]:
                    break
                generation.cached += 1
                generation.accepted += 1
                self.stats.accepted += 1
            # The next step would need a place behind the end of the cache.
            if reason is None and generation.length > self._cache.max_length:
                reason = "length"
            if reason is None:
                generation.send()
        except Exception as error:
            self._fail(self._leave(row), error)
            return
        if reason is not None:
            self._finish(self._leave(row), reason)

    def _leave(self, row: int) -> Generation:
        """Take a request out; the last row moves into its place."""
        generation = self._running[row]
        self._cache.release(row)
        last = self._running.pop()
        if last is not generation:
            self._cache.move(len(self._running), row, last.cached)
            self._running[row] = last
        return generation

    def _finish(self, generation: Generation, reason: str) -> None:
        self.stats.finished += 1
        self.stats.cancelled += reason in {"cancelled", "timeout"}
        if generation.started:
            took = time.monotonic() - generation.started
            self._answer_seconds += _NEWEST_SHARE * (took - self._answer_seconds)
        try:
            generation.finish(reason)
        except Exception as error:
            self._log(f"the end of an answer could not be sent: {error}")

    def _fail(self, generation: Generation, error: Exception) -> None:
        """End a request with an error; the client may be gone by now."""
        self.stats.finished += 1
        self._log(f"a request failed: {error}")
        try:
            generation.sink.fail(f"the language stage failed: {error}")
        except Exception as second:
            self._log(f"its error could not be sent: {second}")

    def _count(self) -> None:
        stats = self.stats
        stats.running = len(self._running) + (self._joining is not None)
        stats.waiting = len(self._waiting)
        stats.blocks_used = self._cache.used_blocks
        self._report(stats)

"""Cancellation that reaches an answer through an ensemble.

Triton (2.51 was tried) cancels an ensemble's request between its steps, but not a step that runs.
So a client may open a second request beside the one that it asks the ensemble: to the language
model itself, with `WATCH` and the same request id, on the same stream. That one is cancelled with
the stream, however the client goes away, and takes the answer with it.
"""

import threading
import time
from typing import Any

_KEPT_SECONDS = 3600.0
"""A watch whose question never came (an earlier stage refused it) is closed after an hour."""


class Watches:
    """Open watches by request id."""

    def __init__(self, pb_utils: Any) -> None:
        self._final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        self._lock = threading.Lock()
        self._senders: dict[str, tuple[Any, float]] = {}

    def open(self, request_id: str, sender: Any) -> None:
        """Watch over the answer with this id.

        Args:
            request_id: Unique among all clients: a UUID.
            sender: Of the watching request.

        Raises:
            ValueError: no id, or one that is watched already.
        """
        self._sweep()
        with self._lock:
            if not request_id or request_id in self._senders:
                raise ValueError("WATCH needs a request id that no other request has")
            self._senders[request_id] = (sender, time.monotonic())

    def is_cancelled(self, request_id: str) -> bool:
        """Whether the watch of an id is cancelled; without a watch it is not."""
        with self._lock:
            entry = self._senders.get(request_id)
        return entry is not None and bool(entry[0].is_cancelled())

    def close(self, request_id: str) -> None:
        """End a watch: its answer is complete."""
        with self._lock:
            entry = self._senders.pop(request_id, None)
        if entry is not None:
            entry[0].send(flags=self._final)

    def close_all(self) -> None:
        """End every watch."""
        for request_id in list(self._senders):
            self.close(request_id)

    def _sweep(self) -> None:
        """Close what is cancelled or forgotten."""
        now = time.monotonic()
        with self._lock:
            entries = list(self._senders.items())
        for request_id, (sender, since) in entries:
            if now - since > _KEPT_SECONDS or sender.is_cancelled():
                self.close(request_id)

"""Requests beside the question that end its answer: CANCEL, and WATCH.

Triton (2.51 was tried) cancels an ensemble's request between its steps, but not a step that runs,
and now and then it crashes when a stream is cancelled. So a client that no longer wants an answer
sends the language model itself an ordinary request, CANCEL, with the question's request id, and
reads its stream to the end.

A client that is killed can't do that. One that cares opens a WATCH beside its question: a request
to the language model with the same id, on the same stream. It is cancelled with the stream, and
takes the answer with it.
"""

import threading
import time
from typing import Any

import numpy as np

MIN_ID_LENGTH = 32
"""Characters of an id that CANCEL and WATCH take: a UUID in hexadecimal has 32. Shorter ones, `1`
say, are given by two clients at once, and one would end the answer of the other."""

_KEPT_SECONDS = 3600.0
"""A watch whose question never came (an earlier stage refused it) is closed after an hour."""

_CANCEL_SECONDS = 600.0
"""So long a cancel waits for a question that the earlier stages still hold."""

_MOST_CANCELS = 10_000


class Watches:
    """Open watches and cancelled answers, by request id."""

    def __init__(self, pb_utils: Any) -> None:
        self._pb_utils = pb_utils
        self._lock = threading.Lock()
        self._senders: dict[str, tuple[Any, float]] = {}
        self._cancels: dict[str, float] = {}

    def take(self, request: Any, sender: Any) -> bool:
        """Serve a request that is a CANCEL or a WATCH; False where it is a question.

        Args:
            request: Triton's request; both inputs are optional, BOOL [1, 1].
            sender: Its response sender.

        Raises:
            ValueError: the id is too short, or a watch with this id is open.
        """
        if self._wants(request, "CANCEL"):
            self.cancel(request.request_id())
            # One response, not none: Triton's HTTP endpoint `generate` wants exactly one.
            reason = np.array([[b"cancelled"]], dtype=np.object_)
            tensor = self._pb_utils.Tensor("FINISH_REASON", reason)
            sender.send(self._pb_utils.InferenceResponse([tensor]), flags=self._final)
            return True
        if self._wants(request, "WATCH"):
            self.open(request.request_id(), sender)
            return True
        return False

    @property
    def _final(self) -> Any:
        return self._pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL

    def _wants(self, request: Any, name: str) -> bool:
        tensor = self._pb_utils.get_input_tensor_by_name(request, name)
        return tensor is not None and bool(tensor.as_numpy().any())

    def cancel(self, request_id: str) -> None:
        """End the answer with this id, now or as soon as its question comes.

        Raises:
            ValueError: the id is too short.
        """
        _check_id("CANCEL", request_id)
        now = time.monotonic()
        with self._lock:
            self._cancels.pop(request_id, None)  # the newest is the last
            self._cancels[request_id] = now
            for name, since in list(self._cancels.items()):
                if now - since <= _CANCEL_SECONDS and len(self._cancels) <= _MOST_CANCELS:
                    break
                del self._cancels[name]

    def open(self, request_id: str, sender: Any) -> None:
        """Watch over the answer with this id.

        Args:
            request_id: Unique among all clients: a UUID.
            sender: Of the watching request.

        Raises:
            ValueError: the id is too short, or one that is watched already.
        """
        _check_id("WATCH", request_id)
        self._sweep()
        with self._lock:
            if request_id in self._senders:
                raise ValueError("WATCH needs a request id that no other request has")
            self._senders[request_id] = (sender, time.monotonic())

    def is_cancelled(self, request_id: str) -> bool:
        """Whether the answer with this id is to end."""
        with self._lock:
            if request_id in self._cancels:
                return True
            entry = self._senders.get(request_id)
        return entry is not None and bool(entry[0].is_cancelled())

    def close(self, request_id: str) -> None:
        """The answer with this id is complete: end its watch, forget its cancel."""
        with self._lock:
            self._cancels.pop(request_id, None)
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


def _check_id(name: str, request_id: str) -> None:
    if len(request_id) < MIN_ID_LENGTH:
        raise ValueError(
            f"{name} needs a request id of {MIN_ID_LENGTH} characters at least that no other "
            "request has: a UUID"
        )

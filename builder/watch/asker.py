"""One model's canary, asked again and again."""

import re
import threading
import time

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

_SHARE = 50.0
"""A canary is asked at most once in so many times what the last one took: 2% of a model's time."""

_DEAD = re.compile(r"[Ss]tub process .*not healthy|unhealthy|health mutex")
_BUSY = re.compile(r"maximum queue size|timeout expired|is full|[Tt]ry again|retry")


class Outcome:
    """How the last canary went: `ok`, `busy` (refused for now), `refused` or `dead`, and why."""

    def __init__(self, state: str, why: str, seconds: float) -> None:
        self.state = state
        self.why = why
        self.seconds = seconds


def _judge(error: str) -> str:
    if _DEAD.search(error):
        return "dead"
    return "busy" if _BUSY.search(error) else "refused"


class Asker:
    """Asks one model in a thread of its own, until it is stopped.

    A canary has no deadline of its own: cancelling a stream may crash Triton 24.10, and who
    watches decides how long is too long (`waiting_since`).
    """

    def __init__(
        self,
        stub: "service_pb2_grpc.GRPCInferenceServiceStub",
        request: "service_pb2.ModelInferRequest",
        interval: float,
        *,
        decoupled: bool,
        metadata: "tuple[tuple[str, str], ...]" = (),
    ) -> None:
        """Start asking.

        Args:
            stub: The server's gRPC service.
            request: The canary.
            interval: Seconds between two of them, at least.
            decoupled: Whether the model answers with a stream.
            metadata: gRPC headers, a key for instance.
        """
        self.model: str = request.model_name
        self.waiting_since: float | None = None
        """When the canary that is under way was sent (`time.monotonic`); None: none is."""
        self.asked = 0
        self.last: Outcome | None = None
        self.failures = 0
        """Canaries in a row that were neither answered nor refused for being busy."""
        self._stub = stub
        self._request = request
        self._interval = interval
        self._decoupled = decoupled
        self._metadata = metadata
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name=f"canary {self.model}", daemon=True).start()

    def stop(self) -> None:
        """Ask no more. A canary that is under way ends with its server or its channel."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            start = time.monotonic()
            self.waiting_since = start
            error = self._ask()
            took = time.monotonic() - start
            if self._stopped.is_set():
                return
            state = "ok" if error is None else _judge(error)
            self.last = Outcome(state, error or "", took)
            self.failures = 0 if state in {"ok", "busy"} else self.failures + 1
            self.asked += 1
            self.waiting_since = None
            # Soon again after a failure: one may be an accident, two are none.
            pause = 1.0 if self.failures == 1 else max(self._interval, _SHARE * took)
            self._stopped.wait(pause)

    def _ask(self) -> "str | None":
        """What the server says against it; None where it answers."""
        try:
            if not self._decoupled:
                self._stub.ModelInfer(self._request, metadata=self._metadata)
                return None
            requests = iter((self._request,))
            for response in self._stub.ModelStreamInfer(requests, metadata=self._metadata):
                if response.error_message:
                    return str(response.error_message)
        except grpc.RpcError as failure:
            details = failure.details() if isinstance(failure, grpc.Call) else failure
            return str(details)
        return None

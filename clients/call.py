"""One question on a gRPC stream of its own: read in a thread, so that it may be left."""

import atexit
import queue
import sys
import threading
import time
from collections.abc import Iterator

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from clients.cancel import DRAIN_SECONDS, EXIT_SECONDS, cancel_request
from clients.errors import AnswerError, from_grpc, past_deadline
from clients.request import CHANNEL_OPTIONS
from clients.response import Chunk, parse_last

_open: set["Call"] = set()


class Call:
    """A question under way.

    Our side of the stream stays open until the answer is complete; a cancel goes over it as a
    second request. Then it ends, and Triton ends its side. The stream itself is never cancelled.
    """

    def __init__(
        self,
        url: str,
        request: service_pb2.ModelInferRequest,
        *,
        language: str,
        timeout: float | None,
    ) -> None:
        """Send the question.

        Args:
            url: HOST:PORT of the gRPC service.
            request: The question; its id is what a cancel names.
            language: The model that takes the cancel.
            timeout: Seconds for the whole answer; None: no limit.
        """
        self._request = request
        self._cancel = cancel_request(request.id, language)
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._complete = threading.Event()  # nothing more is to be sent, but perhaps a cancel
        self._left = False
        self._received: queue.SimpleQueue[Chunk | AnswerError | None] = queue.SimpleQueue()
        # Not tritonclient's own stream: it reads in a thread that the interpreter waits for at
        # exit, for ever when a stream was left half read.
        self._channel = grpc.insecure_channel(url, options=CHANNEL_OPTIONS)
        stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        limit = None if timeout is None else timeout + DRAIN_SECONDS
        self._responses = stub.ModelStreamInfer(self._requests(), timeout=limit)
        self._reader = threading.Thread(target=self._read, name="answer", daemon=True)
        _open.add(self)
        self._reader.start()

    def chunks(self) -> Iterator[Chunk]:
        """The answer as it comes.

        Raises:
            AnswerError: as the server says, or `DeadlineExceededError`.
        """
        while (received := self._next()) is not None:
            if isinstance(received, AnswerError):
                raise received
            yield received

    def leave(self) -> None:
        """Cancel the answer where it is not complete; the stream is read to its end behind us."""
        if not self._complete.is_set():
            self._left = True
            self._complete.set()

    def wait(self, seconds: float) -> None:
        """Wait for the end of the stream."""
        self._reader.join(seconds)

    def _next(self) -> Chunk | AnswerError | None:
        if self._timeout is None or self._deadline is None:
            return self._received.get()
        try:
            return self._received.get(timeout=max(self._deadline - time.monotonic(), 0.0))
        except queue.Empty:
            raise past_deadline(self._timeout) from None

    def _requests(self) -> Iterator[service_pb2.ModelInferRequest]:
        """Our side of the stream; runs in gRPC's thread."""
        yield self._request
        self._complete.wait()
        if self._left:
            yield self._cancel

    def _read(self) -> None:
        """Pass the answer on; read what follows and drop it."""
        try:
            for response in self._responses:
                if self._complete.is_set():
                    continue
                received, last = parse_last(response)
                if last:
                    self._complete.set()
                if received is not None:
                    self._received.put(received)
        except grpc.RpcError as error:
            self._received.put(from_grpc(error))
        finally:
            self._complete.set()  # gRPC's thread waits for it
            self._received.put(None)
            if not sys.is_finalizing():  # by then the threads are gone that close() waits for
                self._channel.close()
            _open.discard(self)


@atexit.register
def _leave_all() -> None:
    """A program that ends with half-read streams cancels them, and does not tear them off."""
    calls = list(_open)
    for call in calls:
        call.leave()
    end = time.monotonic() + EXIT_SECONDS
    for call in calls:
        call.wait(max(end - time.monotonic(), 0.0))

"""The clients for asyncio: any number of answers at once over one connection."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Self

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from clients.cancel import (
    DRAIN_SECONDS,
    EXIT_SECONDS,
    LANGUAGE,
    cancel_request,
    new_request_id,
)
from clients.errors import AnswerError, cut_short, from_grpc, from_message, past_deadline
from clients.request import CHANNEL_OPTIONS, MODEL, Question, infer_request
from clients.response import Answer, AnswerBuilder, Chunk, parse_last


class AsyncClient:
    """One connection to the gRPC service at `url` (HOST:PORT); use it with `async with`.

    `model` is the pipeline, `language` its model that takes cancels.
    """

    def __init__(self, url: str, *, model: str = MODEL, language: str = LANGUAGE) -> None:
        self._channel = grpc.aio.insecure_channel(url, options=CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._model = model
        self._language = language
        self._calls: set[_Call] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel the answers under way, and close the connection when their streams have ended."""
        calls = list(self._calls)
        for call in calls:
            call.leave()
        if calls:
            await asyncio.wait([call.reader for call in calls], timeout=EXIT_SECONDS)
        await self._channel.close()

    async def cancel(self, request_id: str, *, timeout: float = 10.0) -> None:
        """End the answer with this id, as `clients.cancel.cancel` does."""
        requests = _once(cancel_request(request_id, self._language))
        error = ""
        try:
            async for response in self._stub.ModelStreamInfer(requests, timeout=timeout):
                error = error or response.error_message
        except grpc.RpcError as failure:
            raise from_grpc(failure) from None
        if error:
            raise from_message(error)

    async def stream(
        self, question: Question, *, timeout: float | None = None, request_id: str = ""
    ) -> AsyncGenerator[Chunk, None]:
        """Yield chunks as they are generated; `timeout` is in seconds, for the whole answer.

        Closing the generator, or cancelling the task that reads it, cancels the answer as
        `clients.streaming.stream` says; its stream is read to its end in a task. Leave it early
        only inside `contextlib.aclosing`, or Python closes it at some later time.

        Raises:
            ValueError: a number does not fit its tensor (`clients.request.infer_request`).
            AnswerError: the server's sentence and gRPC status, when the request fails.
        """
        name = request_id or new_request_id()
        request = infer_request(question, model=self._model, request_id=name, timeout=timeout)
        call = _Call(self._stub, request, cancel_request(name, self._language), timeout)
        self._calls.add(call)
        call.reader.add_done_callback(lambda _: self._calls.discard(call))
        last: Chunk | None = None
        try:
            while (received := await call.next()) is not None:
                if isinstance(received, AnswerError):
                    raise received
                last = received
                yield received
        finally:
            call.leave()
        if last is None or last.summary is None:
            raise cut_short()

    async def answer(
        self, question: Question, *, timeout: float | None = None, request_id: str = ""
    ) -> Answer:
        """Wait for the whole answer; raises what `stream` raises."""
        builder = AnswerBuilder()
        async with aclosing(
            self.stream(question, timeout=timeout, request_id=request_id)
        ) as chunks:
            async for chunk in chunks:
                builder.add(chunk)
        return builder.build()


class _Call:
    """As `clients.call.Call`, read in a task."""

    def __init__(
        self,
        stub: service_pb2_grpc.GRPCInferenceServiceStub,
        request: service_pb2.ModelInferRequest,
        cancel: service_pb2.ModelInferRequest,
        timeout: float | None,
    ) -> None:
        self._request = request
        self._cancel = cancel
        self._timeout = timeout
        self._end = None if timeout is None else time.monotonic() + timeout
        self._complete = asyncio.Event()
        self._left = False
        self._received: asyncio.Queue[Chunk | AnswerError | None] = asyncio.Queue()
        limit = None if timeout is None else timeout + DRAIN_SECONDS
        self._responses = stub.ModelStreamInfer(self._requests(), timeout=limit)
        self.reader = asyncio.create_task(self._read())

    async def next(self) -> Chunk | AnswerError | None:
        if self._timeout is None or self._end is None:
            return await self._received.get()
        left = max(self._end - time.monotonic(), 0.0)
        try:
            return await asyncio.wait_for(self._received.get(), left)
        except TimeoutError:
            raise past_deadline(self._timeout) from None

    def leave(self) -> None:
        if not self._complete.is_set():
            self._left = True
            self._complete.set()

    async def _requests(self) -> AsyncIterator[service_pb2.ModelInferRequest]:
        yield self._request
        await self._complete.wait()
        if self._left:
            yield self._cancel

    async def _read(self) -> None:
        try:
            async for response in self._responses:
                if self._complete.is_set():
                    continue
                received, last = parse_last(response)
                if last:
                    self._complete.set()
                if received is not None:
                    self._received.put_nowait(received)
        except grpc.RpcError as error:
            self._received.put_nowait(from_grpc(error))
        finally:
            self._complete.set()
            self._received.put_nowait(None)


async def _once(
    request: service_pb2.ModelInferRequest,
) -> AsyncIterator[service_pb2.ModelInferRequest]:
    yield request

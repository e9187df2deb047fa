"""The clients for asyncio: any number of answers at once over one connection."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Self

import grpc
from tritonclient.grpc import service_pb2_grpc

from clients.errors import AnswerError, cut_short, from_grpc, past_deadline
from clients.request import CHANNEL_OPTIONS, MODEL, Question, infer_request
from clients.response import Answer, AnswerBuilder, Chunk, parse_chunk


class AsyncClient:
    """One connection to the gRPC service at `url` (HOST:PORT); use it with `async with`."""

    def __init__(self, url: str, *, model: str = MODEL) -> None:
        self._channel = grpc.aio.insecure_channel(url, options=CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._model = model

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; answers under way fail."""
        await self._channel.close()

    async def stream(
        self, question: Question, *, timeout: float | None = None, request_id: str = ""
    ) -> AsyncGenerator[Chunk, None]:
        """Yield chunks as they are generated; `timeout` is in seconds, for the whole answer.

        Closing the generator, or cancelling the task that reads it, cancels the request as far
        as `clients.streaming.stream` says. Leave it early only inside `contextlib.aclosing`, or
        Python closes it at some later time.

        Raises:
            ValueError: a number does not fit its tensor (`clients.request.infer_request`).
            AnswerError: the server's sentence and gRPC status, when the request fails.
        """
        request = infer_request(question, model=self._model, request_id=request_id)
        # As in clients.streaming: both sides of the stream end after the one request, and the
        # stream is read to its end behind an error.
        start = time.monotonic()
        call = self._stub.ModelStreamInfer(iter([request]), timeout=timeout)
        last: Chunk | None = None
        failure: AnswerError | None = None
        try:
            async for response in call:
                try:
                    chunk = parse_chunk(response)
                except AnswerError as error:
                    failure = error
                    continue
                if chunk is not None:
                    last = chunk
                    yield chunk
        except grpc.RpcError as error:
            if timeout is not None and time.monotonic() - start >= timeout:
                # grpc.aio says "Internal error from Core" where the deadline was over at once.
                raise past_deadline(timeout) from None
            raise from_grpc(error) from None
        finally:
            call.cancel()
        if failure is not None:
            raise failure
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

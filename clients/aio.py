"""The clients for asyncio: any number of answers at once over one connection."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Self

import grpc
from tritonclient.grpc import aio

from clients.errors import cut_short, from_grpc, from_triton
from clients.request import MODEL, STREAM_HEADERS, Question, infer_inputs
from clients.response import Answer, AnswerBuilder, Chunk, parse_chunk


class AsyncClient:
    """One connection to the gRPC service at `url` (HOST:PORT); use it with `async with`."""

    def __init__(self, url: str, *, model: str = MODEL) -> None:
        self._client = aio.InferenceServerClient(url)
        self._model = model

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; answers under way fail."""
        await self._client.close()

    async def stream(
        self, question: Question, *, timeout: float | None = None, request_id: str = ""
    ) -> AsyncGenerator[Chunk, None]:
        """Yield chunks as they are generated; `timeout` is in seconds, for the whole answer.

        Closing the generator, or cancelling the task that reads it, cancels the request. Leave
        it early only inside `contextlib.aclosing`, or Python closes it at some later time.

        Raises:
            ValueError: a number does not fit its tensor (`clients.request.infer_inputs`).
            AnswerError: the server's sentence and gRPC status, when the request fails.
        """
        request = {
            "model_name": self._model,
            "inputs": infer_inputs(question),
            "request_id": request_id,
        }
        call = self._client.stream_infer(
            _only(request), stream_timeout=timeout, headers=STREAM_HEADERS
        )
        last: Chunk | None = None
        try:
            # Our side of the stream closes after the one request, so Triton closes its side
            # after the last response (the asyncio client offers no empty final response).
            async for result, error in call:
                if error is not None:
                    raise from_triton(error)
                chunk = parse_chunk(result)
                if chunk is not None:
                    last = chunk
                    yield chunk
        except grpc.aio.AioRpcError as error:
            raise from_grpc(error) from None
        finally:
            call.cancel()
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


async def _only(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield request

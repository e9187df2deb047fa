"""FastAPI with a transformers pipeline: `uvicorn benchmarks.serving.apps.fastapi_app:app`.

BENCH_STYLE is
- `threads`: a `def` endpoint, which FastAPI runs in its thread pool
  (https://fastapi.tiangolo.com/async/#path-operation-functions);
- `queue`: one task owns the pipeline, endpoints put texts into its queue
  (https://huggingface.co/docs/transformers/pipeline_webserver);
- `batched`: the same with that page's dynamic batching, and the model without the pipeline around,
  which gives the vectors of padding too and does not say which they are.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.serving.apps.encoder import Encoder, Pipeline

STYLE = os.environ.get("BENCH_STYLE", "threads")
MOST = 16
PATIENCE = 0.001
"""Seconds that the documented example waits for another text."""


class Text(BaseModel):
    """A request."""

    text: str


class Vector(BaseModel):
    """An answer."""

    embedding: list[float]


async def _serve(queue: asyncio.Queue[tuple[str, asyncio.Future[Any]]]) -> None:
    pipe = Encoder() if STYLE == "batched" else Pipeline()
    loop = asyncio.get_running_loop()
    while True:
        waiting = [await queue.get()]
        while STYLE == "batched" and len(waiting) < MOST:
            try:
                waiting.append(await asyncio.wait_for(queue.get(), timeout=PATIENCE))
            except TimeoutError:
                break
        texts = [text for text, _ in waiting]
        vectors = await loop.run_in_executor(None, pipe, texts)
        for (_, future), vector in zip(waiting, vectors, strict=True):
            future.set_result(vector if isinstance(vector, list) else vector.tolist())


@asynccontextmanager
async def _lifespan(application: FastAPI) -> AsyncIterator[None]:
    if STYLE == "threads":
        application.state.pipe = Pipeline()
        yield
        return
    application.state.queue = asyncio.Queue()
    task = asyncio.create_task(_serve(application.state.queue))
    yield
    task.cancel()


app = FastAPI(lifespan=_lifespan)

if STYLE == "threads":

    @app.post("/embed")
    def embed(text: Text) -> Vector:
        """One text to its vector."""
        return Vector(embedding=app.state.pipe([text.text])[0])

else:

    @app.post("/embed")
    async def embed_queued(text: Text) -> Vector:
        """One text to its vector."""
        future = asyncio.get_running_loop().create_future()
        await app.state.queue.put((text.text, future))
        return Vector(embedding=await future)


@app.get("/health")
async def health() -> dict[str, str]:
    """Whether it is up."""
    return {"status": "ok"}

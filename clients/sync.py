"""A whole answer in one blocking call."""

from contextlib import closing

from clients.cancel import LANGUAGE
from clients.request import MODEL, Question
from clients.response import Answer, join
from clients.streaming import stream


def answer(
    url: str,
    question: Question,
    *,
    model: str = MODEL,
    language: str = LANGUAGE,
    timeout: float | None = None,
    request_id: str = "",
) -> Answer:
    """Ask `model` at `url` (HOST:PORT of the gRPC service) and wait for the whole answer.

    `timeout` is in seconds. The other arguments, and what is raised, as in
    `clients.streaming.stream`.
    """
    chunks = stream(
        url, question, model=model, language=language, timeout=timeout, request_id=request_id
    )
    with closing(chunks):
        return join(chunks)

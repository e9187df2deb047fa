"""A whole answer in one blocking call."""

from clients.request import MODEL, Question
from clients.response import Answer, join
from clients.streaming import stream


def answer(
    url: str,
    question: Question,
    *,
    model: str = MODEL,
    timeout: float | None = None,
    request_id: str = "",
) -> Answer:
    """Ask `model` at `url` (HOST:PORT of the gRPC service) and wait for the whole answer.

    `timeout` is in seconds. Raises what `clients.streaming.stream` raises.
    """
    return join(stream(url, question, model=model, timeout=timeout, request_id=request_id))

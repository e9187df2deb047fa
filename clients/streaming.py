"""An answer, chunk by chunk, over a gRPC stream."""

from collections.abc import Generator

from clients.call import Call
from clients.cancel import LANGUAGE, new_request_id
from clients.errors import cut_short
from clients.request import MODEL, Question, infer_request
from clients.response import Chunk


def stream(
    url: str,
    question: Question,
    *,
    model: str = MODEL,
    language: str = LANGUAGE,
    timeout: float | None = None,
    request_id: str = "",
) -> Generator[Chunk, None, None]:
    """Ask `model` at `url` (HOST:PORT of the gRPC service); yield chunks as they are generated.

    The question is sent when the first chunk is asked for. Closing the generator early (or
    leaving its `for` loop and dropping it) cancels the answer: a request to the model `language`
    ends it by its request id, and the stream is read to its end in a thread. So does `timeout`,
    in seconds, for the whole answer. It is sent along as TIMEOUT_MS: the server ends the answer
    even if this process is killed.

    `request_id` is random by default. One of your own must be unique among all clients; without
    32 characters at least the answer can't be cancelled and runs on.

    Raises:
        ValueError: a number does not fit its tensor (`clients.request.infer_request`).
        AnswerError: the server's sentence and gRPC status, when the request fails.
    """
    name = request_id or new_request_id()
    request = infer_request(question, model=model, request_id=name, timeout=timeout)
    call = Call(url, request, language=language, timeout=timeout)
    last: Chunk | None = None
    try:
        for chunk in call.chunks():
            last = chunk
            yield chunk
    finally:
        call.leave()
    if last is None or last.summary is None:
        raise cut_short()

"""An answer, chunk by chunk, over a gRPC stream."""

from collections.abc import Generator
from queue import SimpleQueue

from tritonclient.grpc import InferenceServerClient, InferResult
from tritonclient.utils import InferenceServerException

from clients.errors import from_triton
from clients.request import MODEL, STREAM_HEADERS, Question, infer_inputs
from clients.response import Chunk, is_final, parse_chunk


def stream(
    url: str,
    question: Question,
    *,
    model: str = MODEL,
    timeout: float | None = None,
    request_id: str = "",
) -> Generator[Chunk, None, None]:
    """Ask `model` at `url` (HOST:PORT of the gRPC service); yield chunks as they are generated.

    The question is sent when the first chunk is asked for. Closing the generator early (or
    leaving its `for` loop and dropping it) cancels the request; Triton 24.10 passes that on to
    the steps of the ensemble that have not begun, not to the one that runs. `timeout` is in
    seconds, for the whole answer.

    Raises:
        ValueError: a number does not fit its tensor (`clients.request.infer_inputs`).
        AnswerError: the server's sentence and gRPC status, when the request fails.
    """
    inputs = infer_inputs(question)
    # One client a question: tritonclient allows one stream a client. gRPC shares the TCP
    # connection between channels of the same address. Its default options lift the message
    # limits to 2 GiB, so a large picture passes.
    client = InferenceServerClient(url)
    responses: SimpleQueue[tuple[InferResult | None, InferenceServerException | None]]
    responses = SimpleQueue()

    def received(
        result: InferResult | None = None, error: InferenceServerException | None = None
    ) -> None:
        responses.put((result, error))

    finished = False
    try:
        client.start_stream(received, stream_timeout=timeout, headers=STREAM_HEADERS)
        try:
            # Marks every response with `triton_final_response`, and adds an empty response
            # when the model closes its sender without a tensor: how we know the end.
            client.async_stream_infer(
                model, inputs, request_id=request_id, enable_empty_final_response=True
            )
        except InferenceServerException as error:
            # The stream broke before the request got on it; the cause is in the queue.
            _, cause = responses.get()
            raise from_triton(cause or error) from None
        while not finished:
            result, failure = responses.get()
            if failure is not None or result is None:
                finished = True
                raise from_triton(failure or InferenceServerException("empty response"))
            finished = is_final(result)
            chunk = parse_chunk(result)
            if chunk is not None:
                yield chunk
    finally:
        client.stop_stream(cancel_requests=not finished)
        client.close()

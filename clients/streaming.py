"""An answer, chunk by chunk, over a gRPC stream."""

import sys
from collections.abc import Generator

import grpc
from tritonclient.grpc import service_pb2_grpc

from clients.errors import AnswerError, cut_short, from_grpc
from clients.request import CHANNEL_OPTIONS, MODEL, Question, infer_request
from clients.response import Chunk, parse_chunk


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
    the steps of the ensemble that have not begun, not to the one that runs, and now and then
    crashes (README, "Limits worth knowing"). `timeout` is in seconds, for the whole answer.

    Raises:
        ValueError: a number does not fit its tensor (`clients.request.infer_request`).
        AnswerError: the server's sentence and gRPC status, when the request fails.
    """
    request = infer_request(question, model=model, request_id=request_id)
    # Not tritonclient's own stream: it reads in a thread that the interpreter waits for at exit,
    # for ever when a stream was left half read. Its stub and messages have no such trap.
    channel = grpc.insecure_channel(url, options=CHANNEL_OPTIONS)
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    # Our side of the stream ends after the one request, so Triton ends its side after the
    # response that it marks `triton_final_response`, with or without tensors.
    call = stub.ModelStreamInfer(iter([request]), timeout=timeout)
    last: Chunk | None = None
    failure: AnswerError | None = None
    try:
        for response in call:
            # Behind an error the stream is read to its end, not cancelled, and errors come
            # within the stream, not as its status ("triton_grpc_error"): Triton 24.10 crashes
            # now and then when a stream is ended in another way (server issue 8034).
            try:
                chunk = parse_chunk(response)
            except AnswerError as error:
                failure = error
                continue
            if chunk is not None:
                last = chunk
                yield chunk
    except grpc.RpcError as error:
        raise from_grpc(error) from None
    finally:
        call.cancel()
        if not sys.is_finalizing():  # by then the threads are gone that close() waits for
            channel.close()
    if failure is not None:
        raise failure
    if last is None or last.summary is None:
        raise cut_short()

"""Ending an answer that nobody waits for: an ordinary request to the language model.

Triton 24.10 crashes now and then when a gRPC stream is cancelled while an answer runs, and does not
pass the cancel on to the step of an ensemble that runs (docs/language.md, "Cancellation"). So
nothing is cancelled there: the answer is ended by its request id, and its stream read to its end.
"""

import uuid

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from clients.errors import from_grpc, from_message

LANGUAGE = "language"
"""The model behind the pipeline that generates the answer."""

DRAIN_SECONDS = 60.0
"""A stream that was left is cut when it has not ended by then; the server is stuck."""

EXIT_SECONDS = 5.0
"""So long a program that ends, or a client that is closed, waits for streams that were left."""


def new_request_id() -> str:
    """128 random bits: nobody cancels another's answer by chance."""
    return uuid.uuid4().hex


def cancel_request(request_id: str, model: str = LANGUAGE) -> service_pb2.ModelInferRequest:
    """The message that ends the answer with this id."""
    request = service_pb2.ModelInferRequest(model_name=model, id=request_id)
    request.inputs.add(name="CANCEL", datatype="BOOL", shape=[1, 1])
    request.raw_input_contents.append(b"\x01")
    return request


def cancel(url: str, request_id: str, *, model: str = LANGUAGE, timeout: float = 10.0) -> None:
    """End the answer with this id at `url` (HOST:PORT); its stream ends with reason "cancelled".

    Where its question has not reached the language model yet, it ends when it does. An id that
    nobody has is no error. `timeout` is in seconds.

    Raises:
        AnswerError: no server, or the id has fewer than 32 characters.
    """
    with grpc.insecure_channel(url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        requests = iter([cancel_request(request_id, model)])
        error = ""
        try:
            for response in stub.ModelStreamInfer(requests, timeout=timeout):
                error = error or response.error_message
        except grpc.RpcError as failure:
            raise from_grpc(failure) from None
    if error:
        raise from_message(error)

"""The exceptions of the clients.

AnswerError                    no answer: the server's sentence and the gRPC status
+-- ServerUnavailableError     no server, one that went away, or one too busy (UNAVAILABLE)
+-- DeadlineExceededError      the timeout passed before the last response (DEADLINE_EXCEEDED)
"""

import re

import grpc
from tritonclient.utils import InferenceServerException


class AnswerError(Exception):
    """The server refused or failed a request.

    `message` is the server's sentence; `status` the name of the gRPC status, for example
    "INVALID_ARGUMENT". It is "UNKNOWN" for requests that Triton itself refuses (unknown model,
    wrong dtype): on a stream it sends the sentence alone, and only those that say that a later
    try may do are known here. The pipeline's stages put the status before theirs.
    """

    def __init__(self, message: str, status: str) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class ServerUnavailableError(AnswerError):
    """Nothing answers at the address, the server went away, or it is too busy: try later."""


class DeadlineExceededError(AnswerError):
    """The timeout passed before the last response came."""


_BY_STATUS = {"UNAVAILABLE": ServerUnavailableError, "DEADLINE_EXCEEDED": DeadlineExceededError}


def from_triton(error: InferenceServerException) -> AnswerError:
    """The typed form of an error that tritonclient reports."""
    # tritonclient gives str(grpc.StatusCode.X), "StatusCode.X", or nothing.
    status = (error.status() or "UNKNOWN").removeprefix("StatusCode.")
    return _BY_STATUS.get(status, AnswerError)(error.message(), status)


# How the stages begin a refusal (docs/architecture.md), behind what the ensemble puts before it.
_REFUSAL = re.compile(r"(?:in ensemble '[^']*', )?(?P<status>[A-Z_]+): (?P<sentence>.*)", re.DOTALL)


# Triton's own words for a server or model that can't answer now.
_FOR_NOW = re.compile(
    r"Stub process .* is not healthy|Server is stopping|Exceeds maximum queue size"
    r"|Request timeout expired|has no available versions"
)


def from_message(text: str) -> AnswerError:
    """The typed form of an error that came within a stream."""
    match = _REFUSAL.fullmatch(text)
    if match is None or match["status"] not in grpc.StatusCode.__members__:
        if _FOR_NOW.search(text):
            return ServerUnavailableError(text, "UNAVAILABLE")
        return AnswerError(text, "UNKNOWN")
    return _BY_STATUS.get(match["status"], AnswerError)(match["sentence"], match["status"])


def from_grpc(error: grpc.RpcError) -> AnswerError:
    """The typed form of an error that ends a stream."""
    status = error.code().name
    return _BY_STATUS.get(status, AnswerError)(error.details() or status, status)


def past_deadline(timeout: float) -> DeadlineExceededError:
    """The time that the caller allowed, in seconds, is over."""
    return DeadlineExceededError(f"No answer within {timeout:g} s.", "DEADLINE_EXCEEDED")


def cut_short() -> AnswerError:
    """The server closed the stream in good order, yet sent no last response."""
    return AnswerError("The stream ended before the last response of the answer.", "DATA_LOSS")

"""An answer as Triton responses."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from .generation import Piece, Summary
from .watch import Watches

_NO_SUMMARY: dict[str, NDArray[Any]] = {
    "FINISH_REASON": np.array([[b""]], dtype=np.object_),
    "PROMPT_TOKENS": np.zeros((1, 1), dtype=np.int32),
    "COMPLETION_TOKENS": np.zeros((1, 1), dtype=np.int32),
    "STATISTICS": np.array([[b""]], dtype=np.object_),
}


def _response(piece: Piece, summary: dict[str, NDArray[Any]]) -> Any:
    """A response; every one carries every output, an ensemble waits for all of them."""
    outputs = {
        "TEXT": np.array([[piece.text.encode()]], dtype=np.object_),
        "TOKEN_IDS": np.array([piece.ids], dtype=np.int32),
        "TOKEN_LOGPROBS": np.array([piece.logprobs], dtype=np.float32),
        **summary,
    }
    return pb_utils.InferenceResponse([pb_utils.Tensor(k, v) for k, v in outputs.items()])


def refuse(sender: Any, message: str, status: str) -> None:
    """End a request with an error of a gRPC status.

    On a stream Triton sends the sentence alone, so it begins with the status.
    """
    codes = {
        "INVALID_ARGUMENT": pb_utils.TritonError.INVALID_ARG,
        "UNAVAILABLE": pb_utils.TritonError.UNAVAILABLE,
        "INTERNAL": pb_utils.TritonError.INTERNAL,
    }
    error = pb_utils.TritonError(f"{status}: {message}", codes[status])
    response = pb_utils.InferenceResponse(error=error)
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


class TritonSink:
    """Sends one answer through a response sender."""

    def __init__(
        self,
        sender: Any,
        prompt_tokens: int,
        watches: Watches,
        request_id: str,
        details: dict[str, NDArray[Any]] | None = None,
    ) -> None:
        """Prepare an answer.

        Args:
            sender: Triton's response sender.
            prompt_tokens: Length of the prompt.
            watches: Open watches.
            request_id: Of the request.
            details: Further outputs of the last response; chunks have them empty.
        """
        self._sender = sender
        self._prompt_tokens = prompt_tokens
        self._details = {name: array[None] for name, array in (details or {}).items()}
        self._chunk = dict(_NO_SUMMARY)
        for name, array in self._details.items():
            self._chunk[name] = np.empty((1, *([0] * (array.ndim - 1))), dtype=array.dtype)
        self._watches = watches
        self._request_id = request_id

    def send(self, piece: Piece) -> None:
        """Stream a piece of the answer."""
        self._sender.send(_response(piece, self._chunk))

    def finish(self, piece: Piece, summary: Summary) -> None:
        """Send the last response."""
        statistics = asdict(summary)
        reason = statistics.pop("reason")
        tokens = statistics.pop("completion_tokens")
        outputs = {
            "FINISH_REASON": np.array([[reason.encode()]], dtype=np.object_),
            "PROMPT_TOKENS": np.array([[self._prompt_tokens]], dtype=np.int32),
            "COMPLETION_TOKENS": np.array([[tokens]], dtype=np.int32),
            **self._details,
            "STATISTICS": np.array([[json.dumps(statistics).encode()]], dtype=np.object_),
        }
        self._watches.close(self._request_id)
        response = _response(piece, outputs)
        self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def fail(self, message: str) -> None:
        """End the stream with an error."""
        self._watches.close(self._request_id)
        refuse(self._sender, message, "INTERNAL")

    def is_cancelled(self) -> bool:
        """Whether the client has gone away."""
        # The sender last: it costs a message to the server.
        return self._watches.is_cancelled(self._request_id) or bool(self._sender.is_cancelled())

"""A stream to a model that generates text, for the tests."""

import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

_KINDS: dict[str, tuple[str, Any]] = {
    "PROMPT": ("BYTES", np.object_),
    "MESSAGES": ("BYTES", np.object_),
    "TEXT": ("BYTES", np.object_),
    "STOP": ("BYTES", np.object_),
    "AUDIO": ("FP32", np.float32),
    "MAX_TOKENS": ("INT32", np.int32),
    "TOP_K": ("INT32", np.int32),
    "TIMEOUT_MS": ("INT32", np.int32),
    "TEMPERATURE": ("FP32", np.float32),
    "TOP_P": ("FP32", np.float32),
    "REPETITION_PENALTY": ("FP32", np.float32),
    "SEED": ("UINT64", np.uint64),
    "LOGPROBS": ("BOOL", np.bool_),
}


@dataclass
class Answer:
    """All responses of one request."""

    chunks: int = 0
    text: str = ""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    statistics: str = ""


def request_inputs(values: dict[str, Any]) -> list[grpc.InferInput]:
    """Inputs with a leading batch dim of 1."""
    inputs = []
    for name, value in values.items():
        kind, dtype = _KINDS[name]
        array = np.array([value if isinstance(value, list) else [value]], dtype=dtype)
        inputs.append(grpc.InferInput(name, array.shape, kind))
        inputs[-1].set_data_from_numpy(array)
    return inputs


def ask_all(url: str, model: str, requests: list[dict[str, Any]], wait: float = 60) -> list[Answer]:
    """Send requests at once on one stream; the answers in their order.

    Raises:
        InferenceServerException: one was refused.
    """
    responses: queue.Queue[tuple[Any, Any]] = queue.Queue()
    answers = [Answer() for _ in requests]
    open_requests = len(requests)
    with grpc.InferenceServerClient(url) as client:
        client.start_stream(lambda result, error: responses.put((result, error)))
        for place, values in enumerate(requests):
            client.async_stream_infer(model, request_inputs(values), request_id=str(place))
        while open_requests:
            result, error = responses.get(timeout=wait)
            if error is not None:
                raise InferenceServerException(str(error))
            answer = answers[int(result.get_response().id)]
            open_requests -= _add(answer, result)
        client.stop_stream()
    return answers


def _add(answer: Answer, result: Any) -> bool:
    """Take a response in; whether it is the last."""

    def values(name: str) -> Any:
        return result.as_numpy(name).reshape(-1)

    answer.chunks += 1
    answer.text += values("TEXT")[0].decode()
    answer.ids += values("TOKEN_IDS").tolist()
    answer.logprobs += values("TOKEN_LOGPROBS").tolist()
    answer.reason = values("FINISH_REASON")[0].decode()
    answer.prompt_tokens = int(values("PROMPT_TOKENS")[0])
    answer.completion_tokens = int(values("COMPLETION_TOKENS")[0])
    answer.statistics = values("STATISTICS")[0].decode()
    return bool(answer.reason)


def infer_all(
    url: str, model: str, requests: list[dict[str, Any]], output: str = "GENERATED_TEXT"
) -> list[Answer]:
    """Send requests at once, without a stream; the answers in their order.

    Raises:
        InferenceServerException: one was refused.
    """
    with grpc.InferenceServerClient(url) as client, ThreadPoolExecutor(len(requests)) as pool:
        results = pool.map(lambda r: client.infer(model, request_inputs(r)), requests)
        return [_row(result, 0, output) for result in results]


def infer_rows(url: str, model: str, texts: Sequence[str]) -> list[Answer]:
    """The texts as the rows of one request."""
    array = np.array([[text] for text in texts], dtype=np.object_)
    tokens = np.full((len(texts), 1), 16, dtype=np.int32)
    inputs = [
        grpc.InferInput("TEXT", array.shape, "BYTES"),
        grpc.InferInput("MAX_TOKENS", tokens.shape, "INT32"),
    ]
    inputs[0].set_data_from_numpy(array)
    inputs[1].set_data_from_numpy(tokens)
    with grpc.InferenceServerClient(url) as client:
        result = client.infer(model, inputs)
        return [_row(result, row, "GENERATED_TEXT") for row in range(len(texts))]


def _row(result: Any, row: int, output: str) -> Answer:
    count = int(result.as_numpy("COMPLETION_TOKENS")[row, 0])
    return Answer(
        text=result.as_numpy(output)[row, 0].decode(),
        ids=result.as_numpy("TOKEN_IDS")[row, :count].tolist(),
        reason=result.as_numpy("FINISH_REASON")[row, 0].decode(),
        completion_tokens=count,
    )

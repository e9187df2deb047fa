"""What tests of the language stage share: raw streams, metrics, a question with a long answer."""

import queue
import re
import time
import urllib.request
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput

QUESTION = "What is in the picture?"
Metrics = Callable[[], dict[str, float]]


def tensor(name: str, value: Any, dtype: str) -> InferInput:
    kinds = {"BYTES": np.object_, "INT32": np.int32, "FP32": np.float32, "BOOL": np.bool_}
    array = np.array([[value]], dtype=kinds[dtype])
    found = InferInput(name, list(array.shape), dtype)
    found.set_data_from_numpy(array)
    return found


def picture() -> bytes:
    """A cat, encoded."""
    return (files("skimage") / "data" / "chelsea.png").read_bytes()


def question(text: str, **options: tuple[Any, str]) -> list[InferInput]:
    inputs = [tensor("IMAGE", picture(), "BYTES"), tensor("PROMPT", text.encode(), "BYTES")]
    return inputs + [tensor(name, value, dtype) for name, (value, dtype) in options.items()]


class Stream:
    """One gRPC stream and what comes over it."""

    def __init__(self, url: str) -> None:
        self.client = InferenceServerClient(url)
        self.replies: queue.Queue[tuple[Any, Any]] = queue.Queue()
        self.client.start_stream(lambda result, error: self.replies.put((result, error)))

    def ask(
        self, request_id: str, *, watch: bool, text: str = QUESTION, **options: tuple[Any, str]
    ) -> None:
        if watch:
            inputs = [tensor("WATCH", True, "BOOL")]
            self.client.async_stream_infer("language", inputs, request_id=request_id)
        inputs = question(text, **options)
        self.client.async_stream_infer("arr_coc", inputs, request_id=request_id)

    def next(self) -> Any:
        result, error = self.replies.get(timeout=60)
        if error is not None:
            raise error
        return result

    def answer(self) -> list[Any]:
        """Results up to the one with a finish reason."""
        results = []
        while True:
            result = self.next()
            reason = result.as_numpy("FINISH_REASON")
            if reason is None:  # the end of a watch
                continue
            results.append(result)
            if reason.item():
                return results

    def leave(self, *, cancel: bool = False) -> None:
        self.client.stop_stream(cancel_requests=cancel)
        self.client.close()


def metrics_of(server: Any) -> Metrics:
    def read() -> dict[str, float]:
        with urllib.request.urlopen(server.server.metrics_url) as page:
            text = page.read().decode()
        found = re.findall(r'^(language_\w+)\{model="language"\} (\S+)$', text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    return read


def wait_for(metrics: Metrics, condition: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    end = time.monotonic() + 60
    while not condition(values := metrics()):
        assert time.monotonic() < end, values
        time.sleep(0.05)
    return values


LONG = {"MAX_TOKENS": (256, "INT32")}


@cache
def chatty(url: str) -> str:
    """A question that is answered at length."""
    stream = Stream(url)
    for i in range(30):
        stream.ask("", watch=False, text=f"{QUESTION} {i}", **LONG)
        if stream.answer()[-1].as_numpy("COMPLETION_TOKENS").item() == 256:
            stream.leave()
            return f"{QUESTION} {i}"
    raise AssertionError("no question has a long answer")

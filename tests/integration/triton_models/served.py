"""A server whose models write down what they run, and requests that wait at a gate."""

import json
import re
import time
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from builder.serve import TritonServer

SECONDS = 60.0


def until(true: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def values(array: Any, data_type: str | None = None) -> tuple[Any, str]:
    """An array, and Triton's name of its type."""
    if isinstance(array, str):
        return np.array([array.encode()], dtype=object), "BYTES"
    return array, data_type or np_to_triton_dtype(array.dtype)


@dataclass
class Served:
    """The server, and what its models write down."""

    server: TritonServer
    repository: Path
    log: Path
    gates: list[str] = field(default_factory=list)

    @property
    def client(self) -> grpc.InferenceServerClient:
        return self.server.client

    def entries(self, name: str) -> list[dict[str, Any]]:
        """What a model wrote: NAME.runs, NAME.instances, warmed.inputs."""
        path = self.log / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def tags(self, model: str) -> list[str]:
        """Tags of the requests that ran, in order."""
        return [tag for run in self.entries(f"{model}.runs") for tag in run["tags"]]

    def pending(self, model: str) -> int:
        """Requests that wait in the queue of a model."""
        text = urllib.request.urlopen(self.server.metrics_url).read().decode()
        found = re.search(
            rf'^nv_inference_pending_request_count{{model="{model}".*}} (\d+)', text, re.MULTILINE
        )
        return int(found[1]) if found else 0

    def ask(self, model: str, tensors: dict[str, Any], **options: Any) -> Future[grpc.InferResult]:
        """A request in the background."""
        future: Future[grpc.InferResult] = Future()
        inputs = []
        for name, value in tensors.items():
            array, data_type = values(value)
            inputs.append(grpc.InferInput(name, array.shape, data_type))
            inputs[-1].set_data_from_numpy(array)

        def answer(result: grpc.InferResult, error: InferenceServerException | None) -> None:
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self.client.async_infer(model, inputs, answer, **options)
        return future

    def run(
        self, model: str, tag: str, gate: str = "", *, batched: bool = False, **options: Any
    ) -> Future[grpc.InferResult]:
        """A request of a recorder."""
        texts = {"TAG": tag, "GATE": gate}
        tensors = {
            name: values(text)[0].reshape((1, 1) if batched else (1,))
            for name, text in texts.items()
        }
        return self.ask(model, tensors, **options)

    def meet(self, model: str, gate: str, *, batched: bool = False, **options: Any) -> Any:
        """A request that runs, and waits at its gate."""
        future = self.run(model, f"at {gate}", gate, batched=batched, **options)
        until((self.log / f"{gate}.met").exists)
        self.gates.append(gate)
        return future

    def fill(self, model: str, *, batched: bool = False, **options: Any) -> list[Any]:
        """Fill the places between the queue and a busy instance, until requests wait in it.

        Triton takes some requests out of a queue before an instance is free.
        """
        fillers: list[Any] = []
        while not self.pending(model):
            fillers.append(self.run(model, f"filler {len(fillers)}", batched=batched, **options))
            time.sleep(0.2)
        return fillers

    def open(self, gate: str) -> None:
        """Let a request go on."""
        (self.log / f"{gate}.open").touch()

    def open_all(self) -> None:
        """Let all go on, so that nothing waits after a test that failed."""
        for gate in self.gates:
            self.open(gate)


def done(futures: Sequence[Future[Any]]) -> list[Any]:
    return [future.result(SECONDS) for future in futures]

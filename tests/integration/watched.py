"""A small repository that can be hurt, and a watched server on it, for the tests."""

import contextlib
import json
import queue
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tritonclient.grpc as grpc

from builder.serve.ports import find_free

FIRST = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        read = pb_utils.get_input_tensor_by_name
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("Y", read(request, "X").as_numpy())])
            for request in requests
        ]
"""
# X numbers, one every 50 ms.
TALK = """
import threading, time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            count = int(pb_utils.get_input_tensor_by_name(request, "Y").as_numpy()[0])
            sender = request.get_response_sender()
            threading.Thread(target=self.talk, args=(count, sender)).start()

    def talk(self, count, sender):
        for number in range(count):
            time.sleep(0.05)
            tensor = pb_utils.Tensor("Z", np.array([number], np.float32))
            sender.send(pb_utils.InferenceResponse([tensor]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
# Takes X seconds; below 0: for ever.
STUCK = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            while tensor[0] < 0:
                time.sleep(1)
            time.sleep(float(tensor[0]))
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", tensor)]))
        return answers
"""
_IO = """
input {{ name: "{0}" data_type: TYPE_FP32 dims: 1 }}
output {{ name: "{1}" data_type: TYPE_FP32 dims: 1 }}
"""
_PYTHON = 'backend: "python"\ninstance_group { count: 1 kind: KIND_CPU }\n'
CONFIGS = {
    "first": (FIRST, _PYTHON + _IO.format("X", "Y")),
    "talk": (
        TALK,
        _PYTHON + _IO.format("Y", "Z") + "model_transaction_policy { decoupled: true }\n",
    ),
    "stuck": (STUCK, _PYTHON + _IO.format("X", "Y")),
    "pipeline": (
        None,
        'platform: "ensemble"\n'
        + _IO.format("X", "Z")
        + 'ensemble_scheduling {\n  step { model_name: "first" model_version: -1\n'
        '    input_map { key: "X" value: "X" } output_map { key: "Y" value: "y" } }\n'
        '  step { model_name: "talk" model_version: -1\n'
        '    input_map { key: "Y" value: "y" } output_map { key: "Z" value: "Z" } }\n}\n',
    ),
}


def write_repository(folder: Path, write_model: Callable[..., Path]) -> Path:
    for name, (source, config) in CONFIGS.items():
        write_model(folder, name, source, config)
    canary = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1], "data": [2]}]}
    (folder / "pipeline" / "canary.json").write_text(json.dumps(canary))
    return folder


def number(value: float) -> Any:
    tensor = grpc.InferInput("X", [1], "FP32")
    return tensor.set_data_from_numpy(np.array([value], np.float32))


class Talk:
    """One stream of the pipeline."""

    def __init__(self, url: str, count: int) -> None:
        self.replies: queue.Queue[tuple[Any, Any]] = queue.Queue()
        self._client = grpc.InferenceServerClient(url)
        self._client.start_stream(lambda result, error: self.replies.put((result, error)))
        self._client.async_stream_infer("pipeline", [number(count)])
        self._count = count

    def first(self) -> None:
        _, error = self.replies.get(timeout=60)
        assert error is None
        self._count -= 1

    def end(self, wait: float = 60.0) -> str | None:
        """How it ends: None in good order, else the error."""
        for _ in range(self._count):
            _, error = self.replies.get(timeout=wait)
            if error is not None:
                return str(error)
        return None

    def close(self) -> None:
        self._client.stop_stream()
        self._client.close()


class Watched:
    """A watched server as a process: `builder serve`, or the entry point of an image."""

    def __init__(self, *command: str, environment: dict[str, str] | None = None) -> None:
        self.grpc_port, self.http_port, self.metrics_port, self.health_port = find_free(4)
        ports = {
            "{grpc}": self.grpc_port,
            "{http}": self.http_port,
            "{metrics}": self.metrics_port,
            "{health}": self.health_port,
        }

        def filled(text: str) -> str:
            for name, port in ports.items():
                text = text.replace(name, str(port))
            return text

        self.url = f"127.0.0.1:{self.grpc_port}"
        self.process = subprocess.Popen(
            [sys.executable, *map(filled, command)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={name: filled(value) for name, value in environment.items()}
            if environment
            else None,
            text=True,
        )

    def health(self) -> dict[str, Any]:
        """What the health endpoint says; its status must be that of `ready`."""
        url = f"http://127.0.0.1:{self.health_port}/v2/health/ready"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                status, body = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        except OSError:
            return {"ready": False, "state": "unreachable"}
        values: dict[str, Any] = json.loads(body)
        assert status == (200 if values["ready"] else 503)
        return values

    def wait(self, ready: bool, seconds: float = 120.0) -> dict[str, Any]:
        """Until it is ready, or is not."""
        end = time.monotonic() + seconds
        while (values := self.health())["ready"] != ready:
            assert time.monotonic() < end, values
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            time.sleep(0.1)
        return values

    def server(self) -> psutil.Process:
        (server,) = (
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if child.name() == "tritonserver"
        )
        return server

    def stub(self, model: str) -> psutil.Process:
        (stub,) = (
            child for child in self.server().children() if f"/{model}/" in "".join(child.cmdline())
        )
        return stub

    def stop(self) -> str:
        """End it; what it said on stderr."""
        self.process.terminate()
        _, said = self.process.communicate(timeout=120)
        return said


@contextlib.contextmanager
def served(repository: Path, *options: str) -> Iterator[Watched]:
    """`builder serve`, with short intervals."""
    watched = Watched(
        *("-m", "builder", "serve", str(repository), "--interval", "1", "--deadline", "4"),
        *("--grpc-port", "{grpc}", "--http-port", "{http}", "--metrics-port", "{metrics}"),
        *("--health-port", "{health}", "--grace", "4", *options),
    )
    try:
        watched.wait(ready=True)
        yield watched
    finally:
        if watched.process.poll() is None:
            watched.stop()

"""A Python model that writes down what it runs, and waits where a request has it wait.

Copied as `model.py` of many models. The parameter `folder` is where it writes.
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Triton calls these methods by name."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self.folder = Path(config["parameters"]["folder"]["string_value"])
        self.model = args["model_name"]
        self.instance = args["model_instance_name"]
        self._log("instances", {"instance": self.instance, "version": args["model_version"]})

    def execute(self, requests: list[Any]) -> list[Any]:
        tags = [self._text(request, "TAG") for request in requests]
        self._log("runs", {"instance": self.instance, "tags": tags})
        for request in requests:
            gate = self._text(request, "GATE")
            if gate:
                (self.folder / f"{gate}.met").touch()
                deadline = time.monotonic() + 60
                while not (self.folder / f"{gate}.open").exists():
                    if time.monotonic() > deadline:
                        break
                    time.sleep(0.005)
        return [self._answer(request, len(requests)) for request in requests]

    def _answer(self, request: Any, size: int) -> Any:
        shape = pb_utils.get_input_tensor_by_name(request, "TAG").as_numpy().shape
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("SIZE", np.full(shape, size, np.int32)),
                pb_utils.Tensor("WHO", np.full(shape, self.instance.encode(), object)),
            ]
        )

    def _text(self, request: Any, name: str) -> str:
        value = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
        return str(value.reshape(-1)[0].decode())

    def _log(self, kind: str, entry: dict[str, Any]) -> None:
        with (self.folder / f"{self.model}.{kind}").open("a") as file:
            file.write(json.dumps(entry) + "\n")

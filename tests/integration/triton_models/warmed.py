"""A Python model that writes down the inputs of every request, those of its warmup too."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Triton calls these methods by name."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self.path = Path(config["parameters"]["folder"]["string_value"]) / "warmed.inputs"

    def execute(self, requests: list[Any]) -> list[Any]:
        responses: list[Any] = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            text = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
            entry = {"x": x.tolist(), "text": [part.decode() for part in text.reshape(-1)]}
            with self.path.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            y = pb_utils.Tensor("Y", np.zeros((x.shape[0], 1), np.float32))
            responses.append(pb_utils.InferenceResponse([y]))
        return responses

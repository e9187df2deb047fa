"""Triton Python model: logits in, LABELS and SCORES out, the best first."""

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from ..common.settings import config_values
from .scores import ranked, scores


class TritonPythonModel:
    """Names the logits."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the labels from the model config's parameters."""
        config = json.loads(args["model_config"])
        value = config_values(config)
        labels = [label.encode() for label in json.loads(value["labels"])]
        self._labels = np.array(labels, dtype=object)
        self._function = value["function"]
        self._top_k = int(value["top_k"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        logits = pb_utils.get_input_tensor_by_name(request, "logits").as_numpy()
        places, values = ranked(scores(logits, self._function), self._top_k)
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("LABELS", self._labels[places]),
                pb_utils.Tensor("SCORES", values),
            ]
        )

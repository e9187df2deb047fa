"""Triton Python model: logits in, LABELS and SCORES out, the best first."""

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from ..common.settings import read_settings
from .classify_settings import ClassifySettings
from .scores import ranked, scores


class TritonPythonModel:
    """Names the logits."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the labels from the model config's parameters."""
        config = json.loads(args["model_config"])
        self._settings = read_settings(ClassifySettings, config)
        labels = [label.encode() for label in self._settings.labels]
        self._labels = np.array(labels, dtype=object)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        logits = pb_utils.get_input_tensor_by_name(request, "logits").as_numpy()
        settings = self._settings
        places, values = ranked(scores(logits, settings.function), settings.top_k)
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("LABELS", self._labels[places]),
                pb_utils.Tensor("SCORES", values),
            ]
        )

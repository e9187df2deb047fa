"""Triton Python model: start and end logits in, ANSWER and its characters out."""

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from ..common.settings import read_settings
from .answer_settings import AnswerSettings
from .spans import answers


class TritonPythonModel:
    """Finds the best spans."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings from the model config's parameters."""
        config = json.loads(args["model_config"])
        self._settings = read_settings(AnswerSettings, config)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        names = ("CONTEXT", "start_logits", "end_logits", "answerable", "offsets")
        contexts, *rest = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in names
        )
        shape = (len(contexts), self._settings.top_k)
        found: dict[str, Any] = {
            "ANSWER": np.full(shape, b"", dtype=object),
            "SCORE": np.zeros(shape, dtype=np.float32),
            "START": np.zeros(shape, dtype=np.int32),
            "END": np.zeros(shape, dtype=np.int32),
        }
        for index, (context, *row) in enumerate(zip(contexts.reshape(-1), *rest, strict=True)):
            spans = answers(
                context.decode("utf-8"),
                *row,
                top_k=self._settings.top_k,
                max_tokens=self._settings.max_answer_tokens,
                impossible=self._settings.impossible,
            )
            for place, span in enumerate(spans):
                found["ANSWER"][index, place] = span.text.encode()
                found["SCORE"][index, place] = span.score
                found["START"][index, place] = span.start
                found["END"][index, place] = span.end
        return pb_utils.InferenceResponse([pb_utils.Tensor(k, v) for k, v in found.items()])

"""The name of the greatest score, from a file beside this one."""

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Scores in, label and score out."""

    def initialize(self, args):
        """Read the labels once."""
        self._labels = Path(__file__).with_name("labels.txt").read_text().splitlines()

    def execute(self, requests):
        """One answer a request; each may hold several rows."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        scores = pb_utils.get_input_tensor_by_name(request, "SCORES").as_numpy()
        if scores.shape[1] != len(self._labels):
            sentence = f"SCORES has {scores.shape[1]} a row, not {len(self._labels)}"
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError(sentence, pb_utils.TritonError.INVALID_ARG)
            )
        best = scores.argmax(1)
        labels = np.array([[self._labels[i].encode()] for i in best], np.object_)
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("LABEL", labels),
                pb_utils.Tensor("SCORE", scores.max(1, keepdims=True)),
            ]
        )

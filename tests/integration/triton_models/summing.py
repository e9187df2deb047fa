"""A Python model that keeps the sum of a sequence, by the controls that Triton gives."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Triton calls these methods by name."""

    def initialize(self, args: dict[str, str]) -> None:
        self.sums: dict[int, int] = {}

    def execute(self, requests: list[Any]) -> list[Any]:
        responses: list[Any] = []
        for request in requests:
            x, start, end, ready, sequence = (
                pb_utils.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)[0]
                for name in ("X", "START", "END", "READY", "CORRID")
            )
            key = int(sequence)
            total = int(x) + (0 if start else self.sums.get(key, 0))
            if ready and not end:
                self.sums[key] = total
            elif ready:
                self.sums.pop(key, None)
            tensors = [
                pb_utils.Tensor("SUM", np.array([[total]], np.int32)),
                pb_utils.Tensor("SIZE", np.array([[len(requests)]], np.int32)),
                pb_utils.Tensor("OPEN", np.array([[len(self.sums)]], np.int32)),
            ]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses

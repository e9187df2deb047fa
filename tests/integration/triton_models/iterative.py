"""A Python model that puts a request back as often as the request says."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Triton calls these methods by name."""

    def initialize(self, args: dict[str, str]) -> None:
        self.rounds: dict[int, int] = {}

    def execute(self, requests: list[Any]) -> list[Any]:
        responses: list[Any] = []
        for request in requests:
            wanted = pb_utils.get_input_tensor_by_name(request, "X").as_numpy().reshape(-1)[0]
            key = request.correlation_id()
            self.rounds[key] = self.rounds.get(key, 0) + 1
            if self.rounds[key] < wanted:
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
                responses.append(None)
                continue
            rounds = np.array([[self.rounds.pop(key)]], np.int32)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("ROUNDS", rounds)]))
        return responses

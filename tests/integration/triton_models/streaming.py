"""A decoupled Python model: as many responses as the request says."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Triton calls these methods by name."""

    def execute(self, requests: list[Any]) -> list[Any] | None:
        for request in requests:
            count = pb_utils.get_input_tensor_by_name(request, "X").as_numpy().reshape(-1)[0]
            sender = request.get_response_sender()
            for number in range(count):
                tensor = pb_utils.Tensor("Y", np.array([number], np.int32))
                sender.send(pb_utils.InferenceResponse([tensor]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return None

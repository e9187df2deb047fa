"""An ONNX graph on OpenVINO's CPU plugin.

Properties: https://docs.openvino.ai/2026/openvino-workflow/running-inference/inference-devices-and-modes/cpu-device.html
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray


class OpenVinoSession:
    """One compiled graph, for one request at a time."""

    def __init__(self, path: Path, *, threads: int, precision: str) -> None:
        """Read and compile.

        Args:
            path: The ONNX file; weights beside it are found.
            threads: Threads of a run; 0: OpenVINO decides.
            precision: `fp32` or `bf16`: what the arithmetic is done in. OpenVINO's own choice
                would be bf16 wherever the processor has it.
        """
        properties: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            # Instances are processes, which would all be pinned to the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            properties["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(str(path)), "CPU", properties)
        self._request = compiled.create_infer_request()
        self._outputs = {
            name: index for index, output in enumerate(compiled.outputs) for name in output.names
        }

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Every output by name, with any batch size and any length."""
        feed = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        self._request.infer(feed, share_inputs=True)
        return {
            name: self._request.get_output_tensor(index).data.copy()
            for name, index in self._outputs.items()
        }

"""ONNX Runtime sessions of the stages that generate."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort


@dataclass(frozen=True)
class SessionSettings:
    """How ONNX Runtime runs a decoder.

    Attributes:
        intra_op_threads: Threads within an operator; 0 leaves it to ONNX Runtime.
        device_id: CUDA device, or None for the CPU.
        spinning: Whether idle threads wait busily: faster steps, at the cost of the stages beside.
    """

    intra_op_threads: int = 0
    device_id: int | None = None
    spinning: bool = False


def instance_device(args: Mapping[str, str]) -> int | None:
    """CUDA device of the instance that Triton started; None: it runs on the CPU."""
    gpu = args["model_instance_kind"] == "GPU"
    return int(args["model_instance_device_id"]) if gpu else None


def open_session(model: Path, settings: SessionSettings, stage: str) -> ort.InferenceSession:
    """Load a graph.

    Args:
        model: The ONNX file.
        settings: Of the session.
        stage: What an error calls the stage.

    Raises:
        RuntimeError: a CUDA device is asked for that ONNX Runtime can't use.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.intra_op_threads
    spinning = "1" if settings.spinning else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    providers: list[Any] = ["CPUExecutionProvider"]
    if settings.device_id is not None:
        if "CUDAExecutionProvider" not in ort.get_available_providers():
            raise RuntimeError(
                f"the {stage} stage is configured for a GPU but onnxruntime has no "
                "CUDAExecutionProvider; install onnxruntime-gpu"
            )
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": str(settings.device_id)}))
    return ort.InferenceSession(str(model), options, providers=providers)

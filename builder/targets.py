"""The targets that a repository is built for, and what each means."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Target:
    """A column of the table.

    Attributes:
        device: Where instances run unless a spec says otherwise: CPU or GPU.
        runtime: The package of ONNX Runtime in the server's own Python.
        precision: Of exported weights and activations unless a spec says otherwise.
    """

    device: str
    runtime: str
    precision: str


TARGETS: Final = {
    "cpu": Target("CPU", "onnxruntime", "fp32"),
    "gpu": Target("GPU", "onnxruntime-gpu", "fp16"),
    "tensorrt": Target("GPU", "onnxruntime-gpu", "fp16"),
}


def runtime_requirements(target: str, *more: str) -> list[str]:
    """NumPy and the ONNX Runtime of a target, and what else Python stages import, sorted."""
    return sorted(["numpy>=1.26,<2", f"{TARGETS[target].runtime}>=1.20", *more])

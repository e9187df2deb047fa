"""The server that a repository is judged for."""

from dataclasses import dataclass

from builder.errors import BuilderError, SpecError
from builder.spec.releases import OnnxLimits, onnx_limits

DEFAULT_RELEASE = "24.10"

IMAGE_BACKENDS = frozenset(
    {
        "dali",
        "fil",
        "identity",
        "onnxruntime",
        "openvino",
        "python",
        "pytorch",
        "repeat",
        "square",
        "tensorflow",
        "tensorrt",
        "tensorrtllm",
        "vllm",
    }
)
"""Backends of the NGC images (https://github.com/triton-inference-server/backend#backends)."""

PYTHON_BASED_BACKENDS = frozenset({"pytorch", "vllm"})
"""Backends of the images that have a Python runtime, `backends/<name>/model.py`."""

FIELD_RELEASES = {
    "ModelConfig.model_metrics": "25.01",
    "ModelEnsembling.max_inflight_requests": "26.01",
}
"""Fields younger than 24.10, the first release that knows them. A release refuses a config with
a field that it does not know. Found by comparing the descriptor inside libtritonserver.so of
24.10 with the one of tritonclient 2.73."""

NEWEST_ONNX_RELEASE = "24.12"
"""Youngest release whose ONNX Runtime is known; for younger ones the opset is not judged."""

TENSORRT_VERSIONS = {"24.09": (10, 4), "24.10": (10, 5), "24.11": (10, 6), "24.12": (10, 7)}
"""TensorRT of a release's image
(https://docs.nvidia.com/deeplearning/frameworks/support-matrix/index.html)."""


@dataclass(frozen=True, slots=True)
class Target:
    """A Triton server.

    Args:
        release: release of the server, `YY.MM`.
        gpus: number of GPUs; None: not known, so every GPU that a config names may exist.
        rate_limit: the server runs with `--rate-limit=execution_count`, the only mode in which
            Triton looks at resources.
        backends: names of the backends on the server.
        python_based: those of them that have a `model.py` in the backend's folder.
    """

    release: str = DEFAULT_RELEASE
    gpus: int | None = None
    rate_limit: bool = False
    backends: frozenset[str] = IMAGE_BACKENDS
    python_based: frozenset[str] = PYTHON_BASED_BACKENDS

    def __post_init__(self) -> None:
        parts = self.release.split(".")
        if len(parts) != 2 or not all(part.isdecimal() and len(part) == 2 for part in parts):
            raise BuilderError(
                f"{self.release!r} is not a Triton release; give one like {DEFAULT_RELEASE}"
            )

    @property
    def onnx_limits(self) -> OnnxLimits | None:
        """What the release's ONNX Runtime loads; None where the release is not in the table."""
        try:
            limits = onnx_limits(self.release)
        except SpecError:
            return None
        return limits if self.release <= NEWEST_ONNX_RELEASE else None

    def knows(self, field: str) -> bool:
        """Whether the release's proto has `field`, written `Message.field`."""
        return FIELD_RELEASES.get(field, "") <= self.release

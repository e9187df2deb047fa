"""The server that a repository is judged for."""

from dataclasses import dataclass

from builder.releases import Release, release_of, table
from builder.spec.releases import DEFAULT_RELEASE, OnnxLimits, onnx_limits

__all__ = ["DEFAULT_RELEASE", "IMAGE_BACKENDS", "PYTHON_BASED_BACKENDS", "Target"]

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


@dataclass(frozen=True, slots=True)
class Target:
    """A Triton server.

    Args:
        release: release of the server, `YY.MM`, one of the table.
        gpus: number of GPUs; None: not known, so every GPU that a config names may exist.
        rate_limit: the server runs with `--rate-limit=execution_count`, the only mode in which
            Triton looks at resources.
        backends: names of the backends on the server, those left out that the release lacks.
        own_backends: names of further backends, which somebody put there.
        python_based: those of them that have a `model.py` in the backend's folder.

    Raises:
        SpecError: a release that is not in the table.
    """

    release: str = DEFAULT_RELEASE
    gpus: int | None = None
    rate_limit: bool = False
    backends: frozenset[str] = IMAGE_BACKENDS
    own_backends: frozenset[str] = frozenset()
    python_based: frozenset[str] = PYTHON_BASED_BACKENDS

    def __post_init__(self) -> None:
        release_of(self.release)

    @property
    def row(self) -> Release:
        """The release's row of the table."""
        return release_of(self.release)

    @property
    def onnx_limits(self) -> OnnxLimits:
        """What the release's ONNX Runtime loads."""
        return onnx_limits(self.release)

    @property
    def tensorrt(self) -> tuple[int, int] | None:
        """Major and minor of the release's TensorRT; None: not known."""
        version = self.row.tensorrt
        if version is None:
            return None
        major, minor = version.split(".")[:2]
        return int(major), int(minor)

    def has(self, change: str) -> bool:
        """Whether the release has a change of the table, by its name there."""
        return table().changes[change].since <= self.release

    @property
    def all_backends(self) -> frozenset[str]:
        """Names of the backends that the server has."""
        gone = {name for name, since in table().backends_gone.items() if since <= self.release}
        return (self.backends - gone) | self.own_backends

    def knows(self, field: str) -> bool:
        """Whether the release's proto has `field`, written `Message.field`."""
        return table().fields.get(field, "") <= self.release

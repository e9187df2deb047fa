"""What the ONNX Runtime inside each Triton release can load."""

from dataclasses import dataclass

from builder.errors import SpecError


@dataclass(frozen=True)
class OnnxLimits:
    """Highest ONNX versions that a server release loads.

    Attributes:
        onnxruntime: Version of ONNX Runtime in the release.
        opset: Highest opset of the default domain.
        ir_version: Highest IR version.
    """

    onnxruntime: str
    opset: int
    ir_version: int


# Triton release -> ONNX Runtime: `TRITON_VERSION_MAP` in build.py of the server repository at the
# release's tag. ONNX Runtime -> ONNX: https://onnxruntime.ai/docs/reference/compatibility.html and
# https://github.com/onnx/onnx/blob/main/docs/Versioning.md. 1.19.2 was also run here: it refuses
# IR 11 and opset 22 and loads what is built at these limits.
_LIMITS = {
    "24.09": OnnxLimits("1.19.2", 21, 10),
    "24.10": OnnxLimits("1.19.2", 21, 10),
    "24.11": OnnxLimits("1.19.2", 21, 10),
    "24.12": OnnxLimits("1.20.1", 21, 10),
}
_OLDEST, _NEWEST = min(_LIMITS), max(_LIMITS)


def onnx_limits(release: str) -> OnnxLimits:
    """Limits of a release; a release newer than the table loads at least what its newest does.

    Raises:
        SpecError: a release older than the table.
    """
    if release < _OLDEST:
        raise SpecError(
            f"triton_release {release} is not supported; the oldest known release is {_OLDEST}"
        )
    return _LIMITS.get(release, _LIMITS[_NEWEST])

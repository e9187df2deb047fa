"""The release that a spec names, and what its exporters must keep to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import AfterValidator

from builder.errors import SpecError
from builder.releases import onnxruntime_of, release_of, table

DEFAULT_RELEASE: Final = table().default
"""For specs that name none."""


@dataclass(frozen=True)
class OnnxLimits:
    """Highest ONNX versions that a server release loads.

    Attributes:
        onnxruntime: Version of ONNX Runtime in the release.
        opset: Highest opset of the default domain.
        ir_version: Highest IR version.
        opsets: The same for every domain by name, the default one as `ai.onnx`.
    """

    onnxruntime: str
    opset: int
    ir_version: int
    opsets: Mapping[str, int] = field(default_factory=dict)


def onnx_limits(release: str) -> OnnxLimits:
    """Limits of a release.

    Raises:
        SpecError: the release is not in the table.
    """
    version = release_of(release).onnxruntime
    measured = onnxruntime_of(version)
    return OnnxLimits(version, measured.opsets["ai.onnx"], measured.ir, measured.opsets)


def built_for(manifest: Mapping[str, Any]) -> str:
    """The release that a repository was built for, by its manifest.

    Args:
        manifest: What `manifest.json` holds; empty for a repository that nobody built.

    Returns:
        A release of the table, the newest where its members differ; the default one where the
        manifest names none that is.
    """
    known = [release for release in map(_release, _specs(manifest)) if release]
    return max(known, default=DEFAULT_RELEASE)


def _specs(manifest: Mapping[str, Any]) -> Iterator[Any]:
    """The specs of the members' versions that answer; anything, where the manifest is odd."""
    members = manifest.get("members")
    for member in members.values() if isinstance(members, Mapping) else ():
        versions = member.get("versions") if isinstance(member, Mapping) else None
        live = versions.get(str(member.get("live"))) if isinstance(versions, Mapping) else None
        yield live.get("spec") if isinstance(live, Mapping) else None


def _release(spec: Any) -> str:
    release = spec.get("triton_release") if isinstance(spec, Mapping) else None
    return release if isinstance(release, str) and release in table().releases else ""


def _known(release: str) -> str:
    try:
        return release_of(release).name
    except SpecError as error:
        raise ValueError(str(error)) from error


TritonRelease = Annotated[str, AfterValidator(_known)]
"""A release of the table."""

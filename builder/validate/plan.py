"""A TensorRT plan file: its head, and what was written down when it was built.

The tag and the place of the version are those that NVIDIA's own
`trtexec --getPlanVersionOnly` reads:
https://github.com/NVIDIA/TensorRT/blob/release/10.5/samples/common/sampleEngines.cpp
"""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TAG = 0x74727466
_HEAD = struct.Struct("<II16x4B")


class PlanReadError(Exception):
    """The file is no TensorRT plan; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class PlanVersion:
    """TensorRT that built a plan."""

    major: int
    minor: int
    patch: int
    build: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}.{self.build}"


def read_plan_version(path: Path) -> PlanVersion | None:
    """The TensorRT version of a plan; None where its serialization is younger than we know.

    Raises `PlanReadError` where the file is no plan, `OSError` where it cannot be opened.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise PlanReadError(f"it has {len(head)} bytes, fewer than a plan's head")
    tag, serialization, *version = _HEAD.unpack(head)
    if tag != _TAG:
        raise PlanReadError("it does not start with the tag of a TensorRT plan")
    return PlanVersion(*version) if serialization == 0 else None


@dataclass(frozen=True, slots=True)
class PlanManifest:
    """What was written down when a plan was built; "", () and 0 where it does not say.

    `max_batches` has the largest first dim of each optimization profile, `size` the file's bytes.
    """

    version: str = ""
    max_batches: tuple[int, ...] = ()
    size: int = 0


def read_sidecar(data: bytes) -> PlanManifest | None:
    """Read `<plan>.json` beside a plan; None where it is no manifest.

    Its form: `{"tensorrt_version": "10.5.0", "profiles": [{"pixels": {"min": [1, 3], "opt":
    [4, 3], "max": [8, 3]}}]}`.
    """
    content = read_json(data)
    version = content.get("tensorrt_version", "")
    profiles = content.get("profiles", [])
    if not content or not isinstance(version, str) or not isinstance(profiles, list):
        return None
    return PlanManifest(version, tuple(_max_batch(profile) for profile in profiles))


def from_build_manifest(manifest: dict[str, Any], model: str, file: str) -> PlanManifest | None:
    """What the `manifest.json` of `builder build` says of a plan; None where it says nothing.

    `file` is the plan's path in the repository. The one profile of a built engine reaches the
    `max_batch_size` of the model's stage in the spec.
    """
    size = _at(manifest, "files", file, "bytes")
    if not isinstance(size, int):
        return None
    record = _version_record(manifest, model, file)
    version = _at(record, "packages", "tensorrt") or _at(record, "versions", "tensorrt")
    stages = _at(record, "spec", "stages")
    batches = [
        stage.get("max_batch_size")
        for stage in (stages.values() if isinstance(stages, dict) else ())
        if isinstance(stage, dict) and stage.get("name") == model
    ]
    return PlanManifest(
        version if isinstance(version, str) else "",
        tuple(batch for batch in batches if isinstance(batch, int)),
        size,
    )


def _version_record(manifest: dict[str, Any], model: str, file: str) -> Any:
    """What the manifest says of the version that a file belongs to; None: nothing."""
    members = manifest.get("members")
    if members is None:
        return manifest  # of a builder that knew one member and one version
    for member in members.values() if isinstance(members, dict) else ():
        models = _at(member, "models")
        if isinstance(models, list) and model in models:
            return _at(member, "versions", file.split("/")[1] if "/" in file else "")
    return None


def read_json(data: bytes) -> dict[str, Any]:
    """A JSON object; empty where `data` is none."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _at(content: Any, *keys: str) -> Any:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _max_batch(profile: Any) -> int:
    batches = [0]
    for shapes in profile.values() if isinstance(profile, dict) else ():
        largest = shapes.get("max") if isinstance(shapes, dict) else None
        if isinstance(largest, list) and largest and isinstance(largest[0], int):
            batches.append(largest[0])
    return max(batches)

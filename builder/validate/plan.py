"""A TensorRT plan file: its head, and the manifest beside it.

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
class PlanProfile:
    """An optimization profile: the largest first dim among its tensors' `max` shapes."""

    max_batch: int


@dataclass(frozen=True, slots=True)
class PlanManifest:
    """What was written down when a plan was built; "" and () where it does not say."""

    version: str
    profiles: tuple[PlanProfile, ...]


def read_manifest(data: bytes) -> PlanManifest | None:
    """Read `<plan>.json`; None where it is no manifest.

    Its form: `{"tensorrt_version": "10.5.0", "profiles": [{"pixels": {"min": [1, 3], "opt":
    [4, 3], "max": [8, 3]}}]}`.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    version = content.get("tensorrt_version", "")
    profiles = content.get("profiles", [])
    if not isinstance(version, str) or not isinstance(profiles, list):
        return None
    return PlanManifest(version, tuple(PlanProfile(_max_batch(profile)) for profile in profiles))


def _max_batch(profile: Any) -> int:
    batches = [0]
    for shapes in profile.values() if isinstance(profile, dict) else ():
        largest = shapes.get("max") if isinstance(shapes, dict) else None
        if isinstance(largest, list) and largest and isinstance(largest[0], int):
            batches.append(largest[0])
    return max(batches)

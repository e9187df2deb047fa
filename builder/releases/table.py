"""The table of releases: `releases.yaml`, typed."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from builder.errors import SpecError

DATA = Path(__file__).with_name("releases.yaml")

_FORM = re.compile(r"\d{2}\.\d{2}")


@dataclass(frozen=True, slots=True)
class Release:
    """One Triton release, `YY.MM`: versions of what is in its images.

    Attributes:
        name: `YY.MM`.
        server: Version of the server.
        onnxruntime: Of the onnxruntime backend.
        openvino: Of the openvino backend.
        vllm: Of the image with vLLM.
        python: Of the Python backend.
        cuda: Of the image with vLLM.
        tensorrt: Of the plain image; None: not known.
    """

    name: str
    server: str
    onnxruntime: str
    openvino: str
    vllm: str
    python: str
    cuda: str
    tensorrt: str | None

    @property
    def image(self) -> str:
        """The plain image."""
        return f"nvcr.io/nvidia/tritonserver:{self.name}-py3"


@dataclass(frozen=True, slots=True)
class OnnxRuntime:
    """What an ONNX Runtime loads, measured from a wheel.

    Attributes:
        version: The version.
        wheel: The version of the wheel that was measured; lower where there is no wheel.
        ir: Highest IR version.
        opsets: Domain -> highest opset that a file may import; a domain that is not here is not
            looked at.
    """

    version: str
    wheel: str
    ir: int
    opsets: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Change:
    """Something that a release changed.

    Attributes:
        since: The first release that has it.
        what: In words.
    """

    since: str
    what: str


@dataclass(frozen=True, slots=True)
class Table:
    """Everything that is known of releases.

    Attributes:
        default: For specs that name no release.
        local: What `builder serve` starts.
        floor: The oldest release without a known critical vulnerability.
        critical: CVE number -> the release that mended it.
        fields: `Message.field` of the proto -> the first release that knows it; others are older
            than the table.
        backends_gone: Backend -> the first release whose images lack it.
        changes: Name -> what changed, and when.
        releases: The rows by name, oldest first.
        onnxruntimes: What was measured, by version.
    """

    default: str
    local: str
    floor: str
    critical: Mapping[str, str]
    fields: Mapping[str, str]
    backends_gone: Mapping[str, str]
    changes: Mapping[str, Change]
    releases: Mapping[str, Release]
    onnxruntimes: Mapping[str, OnnxRuntime]

    @property
    def oldest(self) -> str:
        """The oldest release with a row."""
        return min(self.releases)

    @property
    def newest(self) -> str:
        """The newest release with a row."""
        return max(self.releases)

    def open_cves(self, release: str) -> list[str]:
        """The critical vulnerabilities of a release, as far as the table knows."""
        return sorted(cve for cve, fixed in self.critical.items() if release < fixed)

    def security_advice(self, release: str) -> str:
        """What is to be said of a release under the floor, one sentence; "" where it is not."""
        if release >= self.floor:
            return ""
        cves = self.open_cves(release)
        known = f"critical ones {', '.join(cves)}" if cves else "none of them critical"
        return (
            f"Triton {release} has known vulnerabilities ({known}); a server that others can reach "
            f"should be {self.floor} or newer"
        )


@functools.cache
def table() -> Table:
    """Read the table, once."""
    data: dict[str, Any] = YAML(typ="safe").load(DATA)
    security = data["security"]
    return Table(
        default=data["default"],
        local=data["local"],
        floor=security["floor"],
        critical=security["critical"],
        fields=data["fields"],
        backends_gone=data["backends_gone"],
        changes={name: Change(**row) for name, row in data["changes"].items()},
        releases={name: Release(name, **row) for name, row in sorted(data["releases"].items())},
        onnxruntimes={
            version: OnnxRuntime(version, **row) for version, row in data["onnxruntime"].items()
        },
    )


def is_release(name: str) -> bool:
    """Whether a text has the form of a release, `YY.MM`."""
    return bool(_FORM.fullmatch(name))


def release_of(name: str) -> Release:
    """The row of a release.

    Raises:
        SpecError: it has none; one sentence.
    """
    rows = table()
    if name in rows.releases:
        return rows.releases[name]
    if not is_release(name):
        raise SpecError(f"{name!r} is not a Triton release; give one like {rows.default}")
    raise SpecError(
        f"Triton release {name} is not known; give one from {rows.oldest} to {rows.newest}"
    )


def onnxruntime_of(version: str) -> OnnxRuntime:
    """What an ONNX Runtime loads; of a version that nobody measured, what the next lower does.

    Raises:
        SpecError: no lower one was measured.
    """
    measured = table().onnxruntimes
    if version in measured:
        return measured[version]
    lower = [known for known in measured if version_key(known) < version_key(version)]
    if not lower:
        raise SpecError(f"what ONNX Runtime {version} loads is not known")
    return measured[max(lower, key=version_key)]


def version_key(version: str) -> tuple[int, ...]:
    """A version's numbers, to be compared."""
    return tuple(int(part) for part in re.findall(r"\d+", version))

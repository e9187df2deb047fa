"""The manifest: which members a repository has, what each was made from, every file's hash."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MANIFEST_NAME: Final = "manifest.json"
FORMAT: Final = 2

_PACKAGES = (
    "triton-repository-builder",
    "torch",
    "transformers",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "tokenizers",
    "numpy",
    "pillow",
    "tensorrt",
)


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Source(_Record):
    """What a version was made from.

    Attributes:
        sha256: Of `files`.
        files: File name -> sha256; `commit` of a checkpoint on the hub.
    """

    sha256: str = ""
    files: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def of(cls, files: Mapping[str, str]) -> "Source":
        """The source with these files."""
        text = json.dumps(dict(files), sort_keys=True)
        return cls(sha256=hashlib.sha256(text.encode()).hexdigest(), files=dict(files))


class VersionRecord(_Record):
    """One version of a member.

    Attributes:
        spec: The whole spec, defaults included.
        source: What it was made from.
        packages: Versions of the packages that made it.
        parity: Rows of the parity table.
        precision: Model name -> the candidates that were measured for it, and the choice.
        configs: Model name -> its `config.pbtxt` as this version was rendered.
    """

    spec: dict[str, Any] = Field(default_factory=dict)
    source: Source = Field(default_factory=Source)
    packages: dict[str, str] = Field(default_factory=dict)
    parity: list[dict[str, Any]] = Field(default_factory=list)
    precision: dict[str, Any] = Field(default_factory=dict)
    configs: dict[str, str] = Field(default_factory=dict)


class MemberRecord(_Record):
    """A member of a repository.

    Attributes:
        origin: Name of the spec file.
        models: Names of its models, in the order in which a request meets them.
        requirements: What its Python models import.
        live: The version that answers.
        versions: Version -> what is known of it.
    """

    origin: str = ""
    models: list[str] = Field(default_factory=list)
    requirements: list[str] = Field(default_factory=list)
    live: int = 1
    versions: dict[int, VersionRecord] = Field(default_factory=dict)

    @property
    def current(self) -> VersionRecord:
        """The version that answers."""
        return self.versions.get(self.live, VersionRecord())


class FileRecord(_Record):
    """A file of a member: its size and hash."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "FileRecord":
        """The record of a file."""
        return cls(bytes=path.stat().st_size, sha256=sha256(path))


class Manifest(_Record):
    """What the builder knows of a repository.

    Attributes:
        format: Of the file itself.
        members: Member -> its record.
        files: Path in the repository -> the file, of everything that the builder wrote.
    """

    format: int = FORMAT
    members: dict[str, MemberRecord] = Field(default_factory=dict)
    files: dict[str, FileRecord] = Field(default_factory=dict)

    @property
    def owners(self) -> dict[str, str]:
        """Model -> the member that it belongs to."""
        return {model: name for name, member in self.members.items() for model in member.models}

    @property
    def only(self) -> VersionRecord:
        """The version of a repository's only member that answers."""
        (member,) = self.members.values()
        return member.current

    def files_of(self, models: Iterable[str]) -> dict[str, FileRecord]:
        """The files in the folders of some models."""
        wanted = set(models)
        return {path: file for path, file in self.files.items() if path.split("/")[0] in wanted}

    def write(self, repository: Path) -> None:
        """Write `manifest.json` into a repository that is otherwise complete."""
        text = json.dumps(self.model_dump(mode="json"), indent=2) + "\n"
        (repository / MANIFEST_NAME).write_text(text)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_versions() -> dict[str, str]:
    """Versions of the packages that shape an artifact, as far as they are installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hashed_files(repository: Path, models: Iterable[str]) -> dict[str, FileRecord]:
    """Every file in the folders of some models, by its path in the repository."""
    return {
        str(path.relative_to(repository)): FileRecord.of(path)
        for model in sorted(models)
        for path in sorted((repository / model).rglob("*"))
        if path.is_file()
    }


def read_manifest(repository: Path) -> Manifest:
    """The manifest of a repository; empty where there is none that can be read."""
    try:
        content = json.loads((repository / MANIFEST_NAME).read_text())
        if isinstance(content, dict) and "format" not in content:
            content = _of_first_format(content)
        return Manifest.model_validate(content)
    except (OSError, ValueError, RecursionError, ValidationError):
        return Manifest()


def _of_first_format(content: dict[str, Any]) -> dict[str, Any]:
    """What builders wrote that knew one member and one version."""
    spec = content["spec"] if isinstance(content.get("spec"), dict) else {}
    models = content.get("models")
    if not isinstance(models, list) or not models:
        return {}
    record = {
        "spec": spec,
        "source": content.get("source", {}),
        "packages": content.get("versions", {}),
        "parity": content.get("parity", []),
        "precision": content.get("precision", {}),
    }
    name = str(spec.get("name", models[-1]))
    member = {"models": models, "versions": {"1": record}}
    return {"members": {name: member}, "files": content.get("files", {})}

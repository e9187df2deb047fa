"""What the rules look at: one model of a repository."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from builder.validate.onnx_graph import GraphSignature, OnnxReadError, read_signature
from builder.validate.plan import (
    PlanManifest,
    PlanReadError,
    PlanVersion,
    from_build_manifest,
    read_plan_version,
    read_sidecar,
)
from builder.validate.python_source import PythonModel, PythonReadError, read_python
from builder.validate.repository import SOURCE_LIMIT, Folder, Repository, UnreadableError
from builder.validate.target import Target
from builder.validate.textproto import ParsedConfig

_NUMBER = re.compile(r"[ \t\n\v\f\r]*(?P<number>[+-]?[0-9]+)")
RESERVED_FOLDERS = frozenset({"warmup", "initial_state", "configs"})
"""Folders of a model that Triton never takes for a version."""


@dataclass
class Model:
    """A model and everything that was read of it.

    `declared` is the config as written, `config` the one that Triton completes it to. Both are
    empty where the config cannot be read; `unusable` is then true.
    """

    name: str
    path: Path
    repository: Repository
    target: Target
    parsed: ParsedConfig
    config_read_error: str = ""
    has_config: bool = True
    declared: ModelConfig = field(default_factory=ModelConfig)
    config: ModelConfig = field(default_factory=ModelConfig)
    completion_error: str = ""
    """Why Triton could not complete the config, in words."""
    open_ended: bool = False
    """The model's own code completes the config (`auto_complete_config`), so that what the config
    lacks may still be filled in."""
    siblings: Mapping[str, "Model"] = field(default_factory=dict)
    failed: bool = False
    """Triton refuses the model."""
    decoupled: bool = False
    """The model answers with a stream; Triton finds out for ensembles."""

    @property
    def unusable(self) -> bool:
        """Whether there is no config to judge."""
        return bool(self.config_read_error) or self.parsed.message is None

    @property
    def is_ensemble(self) -> bool:
        """Whether the config schedules other models."""
        return bool(self.config.HasField("ensemble_scheduling"))

    @property
    def backend(self) -> str:
        """The backend that Triton picks, empty for ensembles."""
        return str(self.config.backend)

    @cached_property
    def folder(self) -> Folder:
        """The entries of the model's folder."""
        return self.repository.folder(self.path)

    @cached_property
    def first_version_folder(self) -> Folder | None:
        """The folder that Triton looks into to tell the backend: the first by name."""
        subdirs = self.folder.subdirs
        return self.repository.folder(self.path / subdirs[0]) if subdirs else None

    @cached_property
    def all_versions(self) -> dict[int, str]:
        """Version numbers of the version folders, with the folder's name, ascending."""
        found: dict[int, str] = {}
        for name in self.folder.subdirs:
            number = version_number(name)
            if number is not None:
                found.setdefault(number, name)
        return dict(sorted(found.items()))

    @cached_property
    def versions(self) -> list[int]:
        """The versions that the version policy loads, ascending."""
        policy = self.config.version_policy
        existing = list(self.all_versions)
        if policy.HasField("specific"):
            # Triton adds a version that does not exist to those that do when it first meets it,
            # so that one which is listed twice is loaded.
            seen = set(existing)
            picked: set[int] = set()
            for version in policy.specific.versions:
                (picked if version in seen else seen).add(version)
            return sorted(picked)
        if policy.HasField("latest"):
            count = policy.latest.num_versions
            return existing[-count:] if count else []
        return existing

    def version_path(self, version: int) -> Path:
        """Where Triton's backends look for a version: `<model>/<number>`.

        They take the number for unsigned, so that of version -1 is 18446744073709551615.
        """
        return self.path / str(version % (1 << 64))

    def artifact(self, version: int, default: str) -> Path:
        """The model file of a version."""
        return self.version_path(version) / (self.config.default_model_filename or default)

    def file(self, path: Path) -> str:
        """`path` as shown in findings."""
        return self.repository.relative(path)

    @cached_property
    def onnx_graphs(self) -> dict[int, GraphSignature | str]:
        """Inputs and outputs of the ONNX graph of each loaded version, or why it has none."""
        return {version: self._onnx_graph(version) for version in self.versions}

    def onnx_path(self, version: int) -> Path:
        """The ONNX file of a version; a folder stands for the `model.onnx` inside."""
        path = self.artifact(version, "model.onnx")
        inner = path / "model.onnx"
        return inner if self.repository.exists(inner) else path

    def _onnx_graph(self, version: int) -> GraphSignature | str:
        path = self.onnx_path(version)
        try:
            self.repository.check_regular(path)
            return read_signature(path)
        except (OnnxReadError, UnreadableError, OSError) as error:
            return str(error)

    @cached_property
    def python_models(self) -> dict[int, PythonModel]:
        """What the `model.py` of each loaded version defines; versions that parse only."""
        return {v: m for v, m in self._python_sources.items() if isinstance(m, PythonModel)}

    @cached_property
    def python_failures(self) -> dict[int, PythonReadError]:
        """Why the `model.py` of a version does not parse; missing files are not here."""
        return {v: m for v, m in self._python_sources.items() if isinstance(m, PythonReadError)}

    @cached_property
    def _python_sources(self) -> dict[int, PythonModel | PythonReadError]:
        found: dict[int, PythonModel | PythonReadError] = {}
        if self.backend != "python":
            return found
        for version in self.versions:
            path = self.artifact(version, "model.py")
            if not self.repository.exists(path):
                continue
            try:
                found[version] = read_python(self.repository.read(path, SOURCE_LIMIT))
            except UnreadableError as error:
                found[version] = PythonReadError(str(error), 0)
            except PythonReadError as error:
                found[version] = error
        return found

    @cached_property
    def plans(self) -> dict[int, PlanVersion | PlanReadError | None]:
        """The TensorRT version of each loaded plan, or why the file is none."""
        found: dict[int, PlanVersion | PlanReadError | None] = {}
        if self.backend != "tensorrt":
            return found
        for version in self.versions:
            path = self.artifact(version, "model.plan")
            if not self.repository.exists(path):
                continue
            try:
                self.repository.check_regular(path)
                found[version] = read_plan_version(path)
            except (UnreadableError, OSError) as error:
                found[version] = PlanReadError(str(error))
            except PlanReadError as error:
                found[version] = error
        return found

    @cached_property
    def plan_manifests(self) -> dict[int, PlanManifest]:
        """What was written down of each loaded plan: in `<plan>.json`, else in `manifest.json`."""
        found: dict[int, PlanManifest] = {}
        for version in self.plans:
            path = self.artifact(version, "model.plan")
            sidecar = path.with_name(path.name + ".json")
            try:
                manifest = read_sidecar(self.repository.read(sidecar, SOURCE_LIMIT))
            except UnreadableError:
                build = self.repository.build_manifest
                manifest = from_build_manifest(build, self.name, self.file(path))
            if manifest is not None:
                found[version] = manifest
        return found


def version_number(name: str) -> int | None:
    """The version that Triton reads from a folder's name, as `std::stoll` does; None: no version.

    `std::stoll` takes the digits at the start, so `1-old` is version 1.
    """
    number = _leading_number(name)
    return number if number is not None and -(1 << 63) <= number < 1 << 63 else None


def is_too_large(name: str) -> bool:
    """Whether a folder's name starts with a number of more than 64 bits."""
    return _leading_number(name) is not None and version_number(name) is None


def _leading_number(name: str) -> int | None:
    if name in RESERVED_FOLDERS or (len(name) > 1 and name[0] == "0"):
        return None
    match = _NUMBER.match(name)
    return int(match["number"]) if match else None


def type_name(data_type: int) -> str:
    """Triton's name of a data type, `TYPE_FP32`; the number where it has none."""
    value = DataType.DESCRIPTOR.values_by_number.get(data_type)
    return value.name if value is not None else str(data_type)

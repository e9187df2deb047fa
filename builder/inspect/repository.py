"""The models of any Triton repository, as Triton completes their configs; nothing is loaded."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb

from builder.validate import Target, load_models, release_of_repository, validate_models
from builder.validate.model import Model, type_name

_DEPTH = 8
"""Folders in folders that are followed when sizes are counted."""


@dataclass(frozen=True)
class TensorInfo:
    """An input or output; `dims` are without the batch dim, -1 varies."""

    name: str
    data_type: str
    dims: tuple[int, ...]
    optional: bool = False

    def __str__(self) -> str:
        dims = ", ".join(map(str, self.dims))
        return f"{self.name} {self.data_type} [{dims}]{' optional' if self.optional else ''}"


@dataclass(frozen=True)
class StepInfo:
    """One step of an ensemble; maps go from the step's tensor to the ensemble's."""

    model: str
    version: int
    input_map: Mapping[str, str]
    output_map: Mapping[str, str]


@dataclass(frozen=True)
class ModelInfo:
    """One model.

    Attributes:
        name: Name of its folder, which is what Triton serves it as.
        backend: What runs it; `ensemble` for an ensemble; empty where Triton would not know.
        platform: The config's platform, where it has one.
        versions: Versions that the version policy loads; a version is a folder.
        max_batch_size: Requests of one run; 0: the model does no batching.
        batching: How requests are joined, in words.
        instances: How many run, and where, in words.
        inputs: Without the batch dim.
        outputs: The same.
        decoupled: It answers with a stream.
        steps: Of an ensemble.
        files: Path relative to the model's folder -> bytes.
        problems: Why Triton would refuse it, each a sentence.
    """

    name: str
    backend: str = ""
    platform: str = ""
    versions: tuple[int, ...] = ()
    max_batch_size: int = 0
    batching: str = ""
    instances: str = ""
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    decoupled: bool = False
    steps: tuple[StepInfo, ...] = ()
    files: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(self.files.values())


def read_repository(path: Path, release: str | None = None) -> list[ModelInfo]:
    """The models of a repository: ensembles last, else by name.

    A model that can't be read is in the list, with its `problems`.

    Args:
        path: The repository.
        release: Triton release that it is looked at for; None: the one that it was built for.

    Raises:
        BuilderError: `path` is no folder of models.
    """
    models = load_models(path, Target(release=release or release_of_repository(path)))
    problems: dict[str, list[str]] = {name: [] for name in models}
    for finding in validate_models(models):
        if finding.severity == "error":
            place = f"{finding.file}:{finding.line}: " if finding.line else ""
            problems[finding.model].append(f"{place}{finding.message}; {finding.mend}")
    infos = [_info(model, problems[name]) for name, model in models.items()]
    return sorted(infos, key=lambda info: (bool(info.steps), info.name))


def _info(model: Model, problems: list[str]) -> ModelInfo:
    files = dict(_files(model, model.path, 0))
    if model.unusable:
        return ModelInfo(model.name, files=files, problems=tuple(problems))
    config = model.config
    return ModelInfo(
        name=model.name,
        backend="ensemble" if model.is_ensemble else config.backend,
        platform=config.platform,
        versions=tuple(model.versions),
        max_batch_size=config.max_batch_size,
        batching=_batching(config),
        instances="" if model.is_ensemble else _instances(config),
        inputs=tuple(_tensor(io, optional=io.optional) for io in config.input),
        outputs=tuple(_tensor(io) for io in config.output),
        decoupled=model.decoupled,
        steps=tuple(
            StepInfo(
                step.model_name, step.model_version, dict(step.input_map), dict(step.output_map)
            )
            for step in config.ensemble_scheduling.step
        ),
        files=files,
        problems=tuple(problems),
    )


def _tensor(io: "pb.ModelInput | pb.ModelOutput", *, optional: bool = False) -> TensorInfo:
    return TensorInfo(
        io.name, type_name(io.data_type).removeprefix("TYPE_"), tuple(io.dims), optional
    )


def _batching(config: "pb.ModelConfig") -> str:
    if config.HasField("sequence_batching"):
        return "sequences"
    if not config.HasField("dynamic_batching"):
        return ""
    dynamic = config.dynamic_batching
    words = ["dynamic"]
    if dynamic.max_queue_delay_microseconds:
        words.append(f"waits {dynamic.max_queue_delay_microseconds} us")
    if dynamic.preferred_batch_size:
        words.append("prefers " + ", ".join(map(str, dynamic.preferred_batch_size)))
    return ", ".join(words)


def _instances(config: "pb.ModelConfig") -> str:
    words = []
    for group in config.instance_group:
        kind = pb.ModelInstanceGroup.Kind.Name(group.kind).removeprefix("KIND_")
        gpus = f" {', '.join(map(str, group.gpus))}" if group.gpus else ""
        words.append(f"{group.count} x {kind}{gpus}")
    return " + ".join(words)


def _files(model: Model, path: Path, depth: int) -> Iterator[tuple[str, int]]:
    for entry in sorted(model.repository.folder(path).entries.values(), key=lambda e: e.name):
        if entry.is_file:
            yield entry.path.relative_to(model.path).as_posix(), entry.size
        elif entry.is_dir and not entry.circular and depth < _DEPTH:
            yield from _files(model, entry.path, depth + 1)

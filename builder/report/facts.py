"""What a report says, read back from the repository that was published."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import PublishError
from builder.inspect import EnsembleGraph, ModelInfo, graph_of, read_repository
from builder.publish.manifest import VersionRecord, read_manifest
from builder.spec.releases import DEFAULT_RELEASE

_SOURCES = ("checkpoint", "onnx", "python")
"""Keys of a spec that say where a member comes from."""
_KINDS = {"onnx": "onnx", "python": "python", "steps": "ensemble"}
"""Key of a spec -> the kind of build, in a word."""


@dataclass(frozen=True)
class Facts:
    """Everything that a report shows.

    Attributes:
        repository: The folder.
        specs: Member -> its whole spec, defaults included.
        source: Source file name -> sha256, or `commit` of a checkpoint on the hub.
        source_hash: Of all of them.
        versions: Package -> version.
        parity: Rows of the parity table: artifact, tensor, batch, max_abs_error, min_cosine,
            tolerance, passed, indices_equal.
        precision: Model -> how its precision was chosen: precision, reason, variants.
        models: The models that the build wrote.
        graphs: Graphs of their ensembles; without any, of each model.
        configs: Model -> its `config.pbtxt`.
        steps: Steps of the build and seconds; empty where they are not known.
    """

    repository: Path
    specs: Mapping[str, Mapping[str, Any]]
    source: Mapping[str, str]
    source_hash: str
    versions: Mapping[str, str]
    parity: Sequence[Mapping[str, Any]]
    precision: Mapping[str, Mapping[str, Any]]
    models: Sequence[ModelInfo]
    graphs: Sequence[EnsembleGraph]
    configs: Mapping[str, str]
    steps: Sequence[tuple[str, float]]

    @property
    def members(self) -> list[str]:
        """Names of the members."""
        return list(self.specs)

    @property
    def spec(self) -> Mapping[str, Any]:
        """The spec of the only member; of several, all of them by name."""
        return self.specs[self.members[0]] if len(self.members) == 1 else self.specs

    @property
    def built_for(self) -> tuple[str, str]:
        """Release and target."""
        releases, targets = (
            sorted({str(spec[key]) for spec in self.specs.values() if key in spec})
            for key in ("triton_release", "target")
        )
        return ", ".join(releases), ", ".join(targets)

    @property
    def name(self) -> str:
        """The member's name; of several, the repository's."""
        return self.members[0] if len(self.members) == 1 else self.repository.name

    @property
    def checkpoint(self) -> str:
        """Where the weights came from, as the specs say it."""
        sources = [
            next((spec[key] for key in _SOURCES if spec.get(key)), None)
            for spec in self.specs.values()
        ]
        return ", ".join(str(s.get("path", "")) for s in sources if isinstance(s, Mapping))

    @property
    def what(self) -> str:
        """The kind of build, in a word."""
        kinds = {
            str(spec["task"])
            if "task" in spec
            else next((kind for key, kind in _KINDS.items() if key in spec), "arr-coc")
            for spec in self.specs.values()
        }
        return kinds.pop() if len(kinds) == 1 else f"{len(self.members)} members"

    @property
    def engine(self) -> str:
        """What runs a task's graphs; empty for other builds."""
        models = [spec.get("model") for spec in self.specs.values()]
        engines = {str(m.get("engine", "")) for m in models if isinstance(m, Mapping)}
        return engines.pop() if len(engines) == 1 else ""

    @property
    def total(self) -> int:
        """Bytes of all models."""
        return sum(model.size for model in self.models)

    @property
    def seconds(self) -> float:
        """Of the whole build."""
        return sum(seconds for _, seconds in self.steps)


def read_facts(
    repository: Path,
    steps: Sequence[tuple[str, float]] = (),
    members: Collection[str] | None = None,
) -> Facts:
    """Read a repository that the builder published.

    Args:
        repository: The folder.
        steps: Steps of the build and seconds.
        members: The members to report on; None: all.

    Raises:
        PublishError: it has no manifest.
    """
    known = read_manifest(repository).members
    told = {name: known[name] for name in known if members is None or name in members}
    if not told:
        raise PublishError(f"{repository} has no manifest.json of a build; nothing to report")
    owned = {model for member in told.values() for model in member.models}
    current = {name: member.current for name, member in told.items()}
    specs = {name: version.spec for name, version in current.items()}
    release = max((str(s["triton_release"]) for s in specs.values() if "triton_release" in s),
                  default=DEFAULT_RELEASE)  # fmt: skip
    everything = read_repository(repository, release)
    models = [model for model in everything if model.name in owned]
    # Without an ensemble, each model is drawn between its request and its response.
    drawn = [model for model in models if model.steps] or models
    several = len(told) > 1
    return Facts(
        repository=repository,
        specs=specs,
        source={
            f"{name}: {file}" if several else file: digest
            for name, version in current.items()
            for file, digest in version.source.files.items()
        },
        source_hash="" if several else next(iter(current.values())).source.sha256,
        versions=next(iter(current.values())).packages,
        parity=[row for version in current.values() for row in version.parity],
        precision=_precision(current.values()),
        models=models,
        graphs=[graph_of(model, everything) for model in drawn],
        configs={model.name: _config(repository, model.name) for model in models},
        steps=steps,
    )


def _precision(versions: Iterable[VersionRecord]) -> dict[str, Mapping[str, Any]]:
    """Only what has several candidates has something to choose between."""
    return {
        name: outcome
        for version in versions
        for name, outcome in version.precision.items()
        if isinstance(outcome, Mapping) and len(outcome.get("variants", ())) > 1
    }


def _config(repository: Path, name: str) -> str:
    try:
        return (repository / name / "config.pbtxt").read_text()
    except OSError:
        return ""

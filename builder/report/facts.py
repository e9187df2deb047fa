"""What a report says, read back from the repository that was published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import PublishError
from builder.inspect import EnsembleGraph, ModelInfo, graph_of, read_repository
from builder.publish.manifest import read_manifest


@dataclass(frozen=True)
class Facts:
    """Everything that a report shows.

    Attributes:
        repository: The folder.
        spec: The whole spec, defaults included.
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
    spec: Mapping[str, Any]
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
    def name(self) -> str:
        """The spec's name."""
        return str(self.spec.get("name", self.repository.name))

    @property
    def checkpoint(self) -> str:
        """Where the weights came from, as the spec says it."""
        source = self.spec.get("checkpoint") or self.spec.get("onnx")
        return str(source.get("path", "")) if isinstance(source, Mapping) else ""

    @property
    def what(self) -> str:
        """The kind of build, in a word."""
        if "task" in self.spec:
            return str(self.spec["task"])
        return "onnx" if "onnx" in self.spec else "arr-coc"

    @property
    def engine(self) -> str:
        """What runs a task's graphs; empty for other builds."""
        model = self.spec.get("model")
        return str(model.get("engine", "")) if isinstance(model, Mapping) else ""

    @property
    def total(self) -> int:
        """Bytes of all models."""
        return sum(model.size for model in self.models)

    @property
    def seconds(self) -> float:
        """Of the whole build."""
        return sum(seconds for _, seconds in self.steps)


def read_facts(repository: Path, steps: Sequence[tuple[str, float]] = ()) -> Facts:
    """Read a repository that the builder published.

    Args:
        repository: The folder.
        steps: Steps of the build and seconds.

    Raises:
        PublishError: it has no manifest.
    """
    manifest = read_manifest(repository)
    if not manifest:
        raise PublishError(f"{repository} has no manifest.json of a build; nothing to report")
    owned = set(manifest.get("models", []))
    release = str(manifest.get("spec", {}).get("triton_release", "24.10"))
    everything = read_repository(repository, release)
    models = [model for model in everything if model.name in owned]
    # Without an ensemble, each model is drawn between its request and its response.
    drawn = [model for model in models if model.steps] or models
    source = manifest.get("source", {})
    return Facts(
        repository=repository,
        spec=manifest.get("spec", {}),
        source=source.get("files", {}),
        source_hash=str(source.get("sha256", "")),
        versions=manifest.get("versions", {}),
        parity=manifest.get("parity", []),
        precision=_precision(manifest),
        models=models,
        graphs=[graph_of(model, everything) for model in drawn],
        configs={model.name: _config(repository, model.name) for model in models},
        steps=steps,
    )


def _precision(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Only what has several candidates has something to choose between."""
    made = manifest.get("precision", {})
    return {
        name: outcome
        for name, outcome in made.items()
        if isinstance(outcome, Mapping) and len(outcome.get("variants", ())) > 1
    }


def _config(repository: Path, name: str) -> str:
    try:
        return (repository / name / "config.pbtxt").read_text()
    except OSError:
        return ""

"""Steps that every kind of build shares, and what a build reports."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from builder.errors import PublishError, SpecError
from builder.publish.manifest import owned_models
from builder.render.model_config import ModelConfig
from builder.render.sources import copy_sources
from builder.render.templates import render_config, render_template
from builder.validate import Target, validate_repository
from builder.verify.measure import ParityRow

VERSION = "1"
"""Every model is written as this version."""


class Progress(Protocol):
    """Told what a build does; shows nothing of what a subclass leaves out."""

    def start(self, steps: int) -> None:
        """The number of steps that follow."""

    def step(self, text: str) -> None:
        """A step begins."""

    def detail(self, text: str) -> None:
        """How far the step is, in its own words."""


@dataclass(frozen=True)
class BuildReport:
    """What a build wrote.

    Attributes:
        repository: The published folder.
        models: Model name -> bytes of its files, in pipeline order.
        parity: The parity table.
        carried: Entries of the old repository that were kept because they are not ours.
        precision: Model name -> the candidates that were measured for it, and the choice.
    """

    repository: Path
    models: dict[str, int]
    parity: list[ParityRow]
    carried: list[str] = field(default_factory=list)
    precision: dict[str, Any] = field(default_factory=dict)


def runtime_requirements(target: str, *more: str) -> list[str]:
    """NumPy and the ONNX Runtime of a target, and what else Python stages import, sorted."""
    runtime = "onnxruntime" if target == "cpu" else "onnxruntime-gpu"
    return sorted(["numpy>=1.26,<2", f"{runtime}>=1.20", *more])


def selected_models(names: list[str], only: str | None, target: Path) -> list[str]:
    """Names of the models to build anew.

    Args:
        names: All of the spec's.
        only: The one that is asked for; None: all.
        target: The repository that has the others.

    Raises:
        SpecError: the spec has no such model.
        PublishError: the repository lacks another one.
    """
    if only is None:
        return names
    if only not in names:
        raise SpecError(f"--only {only}: the spec has no such model; it has {', '.join(names)}")
    missing = sorted(set(names) - {only} - owned_models(target))
    if missing:
        raise PublishError(
            f"--only {only}: {target} has no built '{missing[0]}' to go with it; "
            "build everything first"
        )
    return [only]


def write_models(
    configs: Iterable[ModelConfig],
    stages: Mapping[str, str],
    requirements: list[str],
    origin: str,
    folder: Path,
) -> None:
    """Configs, Python stages and requirements; no weights.

    Args:
        configs: The models.
        stages: Name of a Python model -> folder of its sources in `runtime/models`.
        requirements: What the Python stages import.
        origin: Name of the spec file.
        folder: The repository.
    """
    for config in configs:
        version = folder / config.name / VERSION
        version.mkdir(parents=True, exist_ok=True)
        (folder / config.name / "config.pbtxt").write_text(render_config(config, origin))
        if config.kind == "python":
            copy_sources(stages[config.name], version)
        if config.kind == "ensemble":
            # Git keeps no empty folder, and Triton wants a version folder.
            (version / ".keep").touch()
    text = render_template("requirements.txt.j2", requirements=requirements)
    (folder / "requirements.txt").write_text(text)


def require_valid(folder: Path, release: str) -> None:
    """Refuse a repository that Triton would not load.

    Args:
        folder: The repository.
        release: Triton release that it is built for.

    Raises:
        PublishError: names each model and why.
    """
    errors = [
        f for f in validate_repository(folder, Target(release=release)) if f.severity == "error"
    ]
    if errors:
        lines = [f"{f.model}: {f.message} ({f.rule})" for f in errors]
        raise PublishError("nothing was published; Triton would refuse it:\n" + "\n".join(lines))


def model_sizes(repository: Path, configs: Iterable[ModelConfig]) -> dict[str, int]:
    """Model name -> bytes of its files."""
    return {
        config.name: sum(
            path.stat().st_size for path in (repository / config.name).rglob("*") if path.is_file()
        )
        for config in configs
    }


def drift(scratch: Path, target: Path) -> list[str]:
    """Files of `scratch` that `target` lacks or has with other bytes, as relative paths."""
    changed = []
    for path in sorted(scratch.rglob("*")):
        other = target / path.relative_to(scratch)
        if path.is_file() and (not other.is_file() or other.read_bytes() != path.read_bytes()):
            changed.append(str(path.relative_to(scratch)))
    return changed

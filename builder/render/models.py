"""The model folders of a member, but for weights."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from builder.render.canary import write_canaries
from builder.render.model_config import ModelConfig
from builder.render.queues import bounded
from builder.render.sources import copy_sources
from builder.render.templates import render_config, render_template

REQUIREMENTS_NAME = "requirements.txt"


def write_models(
    configs: Iterable[ModelConfig],
    stages: Mapping[str, str],
    origin: str,
    folder: Path,
    version: str,
) -> dict[str, str]:
    """Configs, the files that they refer to, Python stages and canaries.

    Args:
        configs: The models.
        stages: Name of a Python model of ours -> folder of its sources in `runtime/models`.
        origin: Name of the spec file.
        folder: The repository.
        version: The version folder of each model.

    Returns:
        Model -> its `config.pbtxt`.
    """
    texts = {}
    named = {config.name: bounded(config) for config in configs}
    for config in (_pinned(config, named, int(version)) for config in named.values()):
        place = folder / config.name / version
        place.mkdir(parents=True, exist_ok=True)
        texts[config.name] = render_config(config, origin)
        (folder / config.name / "config.pbtxt").write_text(texts[config.name])
        for name, data in config.files.items():
            path = folder / config.name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if config.name in stages:
            copy_sources(stages[config.name], place)
        if config.backend == "ensemble":
            # Git keeps no empty folder, and Triton wants a version folder.
            (place / ".keep").touch()
    write_canaries(named.values(), folder)
    return texts


def _pinned(config: ModelConfig, own: Collection[str], version: int) -> ModelConfig:
    """An ensemble whose steps name the version of the member's own models.

    The newest that is loaded may be of another version than the ensemble, while that is changed.
    """
    steps = tuple(
        replace(step, model_version=version) if step.model_name in own else step
        for step in config.steps
    )
    return replace(config, steps=steps)


def write_requirements(lines: Iterable[str], folder: Path) -> None:
    """Write what the Python stages of a repository import, each line once."""
    text = render_template("requirements.txt.j2", requirements=sorted(set(lines)))
    (folder / REQUIREMENTS_NAME).write_text(text)


def model_sizes(repository: Path, configs: Iterable[ModelConfig]) -> dict[str, int]:
    """Model name -> bytes of its files."""
    return {
        config.name: sum(
            path.stat().st_size for path in (repository / config.name).rglob("*") if path.is_file()
        )
        for config in configs
    }

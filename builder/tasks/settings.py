"""What a task's spec says of each model in Triton's own terms."""

from pathlib import Path

from builder.errors import SpecError
from builder.render.model_config import ModelConfig
from builder.render.settings import with_settings
from builder.spec.task import TaskSpec
from builder.spec.triton.model import ModelSettings
from builder.tasks.engines import engine_configs
from builder.tasks.task import Task


def served_configs(task: Task, spec: TaskSpec, base: Path) -> list[ModelConfig]:
    """The configs of a task on the spec's engine, with all that the spec says of each model.

    Args:
        task: The task over its checkpoint.
        spec: The spec.
        base: Folder of the spec file.

    Raises:
        SpecError: the engine can't run the task, or a setting has no meaning for its model.
    """
    configs = engine_configs(task, spec)
    settings = _settings(task, spec, configs)
    return [
        with_settings(
            config,
            settings[config.name],
            target=spec.target,
            release=spec.triton_release,
            base=base,
        )
        if config.name in settings
        else config
        for config in configs
    ]


def _settings(task: Task, spec: TaskSpec, configs: list[ModelConfig]) -> dict[str, ModelSettings]:
    """Model -> what the spec says of it."""
    stages = task.stages()
    found: dict[str, ModelSettings] = {}
    known = []
    for config in configs:
        if config.backend == "ensemble":
            if spec.ensemble is not None:
                found[config.name] = spec.ensemble
        elif config.name in stages or config.backend == "vllm":
            stage = stages.get(config.name, config.backend)
            known.append(stage)
            if stage in spec.stages:
                found[config.name] = spec.stages[stage]
        else:
            found[config.name] = spec.model
    unknown = sorted(set(spec.stages) - set(known))
    if unknown:
        raise SpecError(
            f"stages: {spec.task} has no stage '{unknown[0]}' here; it has {', '.join(known)}"
        )
    if spec.ensemble is not None and not any(config.backend == "ensemble" for config in configs):
        raise SpecError(f"ensemble: {spec.task} is one model; say it under stages: {known[0]}")
    return found

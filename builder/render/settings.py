"""A spec's settings in the terms of a model config."""

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from builder.errors import SpecError
from builder.releases import table
from builder.render.model_config import InstanceGroup, ModelConfig
from builder.render.model_files import Source
from builder.render.user_model import made_tensors, user_model
from builder.render.warmup import warmups
from builder.spec import batching as spec
from builder.spec.language import SERVING, DecoderSettings
from builder.spec.triton import EnsembleSettings, StageSettings, TritonModel
from builder.spec.triton.model import (
    BATCH_STRATEGY,
    BatchedStage,
    ModelSettings,
    Parameter,
)
from builder.spec.triton.optimization import Optimization

GRAPH_LEVELS: Final = {"all": 0, "extended": 1, "basic": -1, "off": 2}
"""Triton's optimization.graph.level."""

_FIELDS: Final = {
    "model_metrics": "ModelConfig.model_metrics",
    "ensemble_scheduling.max_inflight_requests": "ModelEnsembling.max_inflight_requests",
}
"""Fields that older servers refuse, by their names in the table of releases."""

_ACCELERATORS: Final = {
    "gpu_execution_accelerator": ("tensorrt", "cuda"),
    "cpu_execution_accelerator": ("openvino",),
}
"""What Triton's ONNX Runtime backend takes (src/onnxruntime.cc)."""

_SERVED: Final = SERVING - {"kind"}

_STRATEGY_FILE: Final = "batchstrategy.so"
"""Triton looks for it in the model's folder (src/backend_model.cc of core)."""


def device(kind: str, target: str) -> str:
    """CPU, GPU or MODEL: what the spec says, or the target's own where it says auto."""
    if kind != "auto":
        return kind.upper()
    return "CPU" if target == "cpu" else "GPU"


def instances(group: spec.InstanceGroup, target: str) -> InstanceGroup:
    """The instance group; CUDA devices only where it runs on them."""
    place = device(group.kind, target)
    return InstanceGroup(
        count=group.count,
        kind=place,
        gpus=tuple(group.gpus) if place == "GPU" else (),
        name=group.name or "",
        rate_limiter=group.rate_limiter,
        secondary_devices=tuple(group.secondary_devices),
        profile=tuple(group.profile),
        passive=group.passive,
        host_policy=group.host_policy or "",
    )


def session_parameters(settings: spec.OnnxRuntime) -> dict[str, str]:
    """Parameters of Triton's ONNX Runtime backend."""
    return {
        "intra_op_thread_count": str(settings.intra_op_thread_count),
        "inter_op_thread_count": str(settings.inter_op_thread_count),
        "execution_mode": "1" if settings.execution_mode == "parallel" else "0",
    }


def decoder_values(decoder: DecoderSettings) -> dict[str, Any]:
    """Fields of `ServedSettings` that a spec says: cache, batching and threads."""
    values = decoder.model_dump(include=_SERVED)
    if decoder.max_waiting is None:
        values["max_waiting"] = 2 * decoder.slots
    return values


def with_settings(
    config: ModelConfig, settings: ModelSettings, *, target: str, release: str, base: Path
) -> ModelConfig:
    """A config with all that the spec says of its model; what it does not say stays as it is.

    Args:
        config: The model as its recipe makes it; `files` may already have some.
        settings: What the spec says.
        target: cpu, gpu or tensorrt.
        release: Triton release that the repository is built for.
        base: Folder of the spec file, which paths in it are relative to.

    Raises:
        SpecError: a setting has no meaning for this model, does not go with another one, or
            needs a younger release.
    """
    config = _common(config, settings, release, base)
    if isinstance(settings, EnsembleSettings):
        return _ensemble(config, settings, release)
    if isinstance(settings, StageSettings):
        if config.backend == "ensemble":
            raise SpecError(f"{config.name}: an ensemble takes the settings of an ensemble")
        config = _stage(config, settings, target)
        if isinstance(settings, TritonModel):
            if settings.instance_group is None:
                group = instances(settings.instances, target)
                config = replace(config, instance_group=(group,))
            config = user_model(config, settings, base)
        else:
            config = _built_stage(config, settings)
        config = _with_warmup(config, settings, base)
    return config


def require_release(name: str, field: str, release: str) -> None:
    """Refuse a field that a release does not know: it would refuse the whole config.

    Raises:
        SpecError: the release is too old.
    """
    first = table().fields[_FIELDS[field]]
    if release < first:
        raise SpecError(
            f"{name}: {field} needs triton_release {first} or newer; the spec is for {release}"
        )


def _common(config: ModelConfig, settings: ModelSettings, release: str, base: Path) -> ModelConfig:
    if settings.model_metrics is not None:
        require_release(config.name, "model_metrics", release)
    config = _with_parameters(config, settings.parameters, base)
    return replace(
        config,
        version_policy=settings.version_policy or config.version_policy,
        response_cache=settings.response_cache.enable if settings.response_cache else None,
        metric_tags={**config.metric_tags, **settings.metric_tags},
        model_metrics=settings.model_metrics or config.model_metrics,
    )


def _with_parameters(config: ModelConfig, given: dict[str, Parameter], base: Path) -> ModelConfig:
    taken = sorted(set(given) & set(config.parameters))
    if taken:
        raise SpecError(
            f"{config.name}: parameters: the builder writes '{taken[0]}' itself; remove it"
        )
    texts = {key: _text(value) for key, value in given.items()}
    files = dict(config.files)
    library = texts.get(BATCH_STRATEGY, "")
    if library and not PurePosixPath(library).is_absolute():
        # Since 26.06 the library must be in the model's folder, whose path only the server knows;
        # under this name it is found there.
        source = Source(f"{config.name}: parameters: {BATCH_STRATEGY}", base)
        files[_STRATEGY_FILE] = source.read(library)
        del texts[BATCH_STRATEGY]
    return replace(config, parameters={**config.parameters, **texts}, files=files)


def _text(value: Parameter) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ensemble(config: ModelConfig, settings: EnsembleSettings, release: str) -> ModelConfig:
    if config.backend != "ensemble":
        raise SpecError(f"{config.name}: is no ensemble, and has the settings of one")
    scheduling = settings.ensemble_scheduling
    if scheduling is None or not scheduling.max_inflight_requests:
        return config
    require_release(config.name, "ensemble_scheduling.max_inflight_requests", release)
    return replace(config, max_inflight_requests=scheduling.max_inflight_requests)


def _stage(config: ModelConfig, settings: StageSettings, target: str) -> ModelConfig:
    if settings.instance_group is not None:
        groups = tuple(instances(group, target) for group in settings.instance_group)
        config = replace(config, instance_group=groups)
    for group in config.instance_group:
        if group.profile and config.backend != "tensorrt":
            raise SpecError(
                f"{config.name}: instance_group.profile is for TensorRT engines; this model runs "
                f"on {config.backend}"
            )
    if config.decoupled and config.response_cache:
        raise SpecError(
            f"{config.name}: response_cache has no meaning here: the model streams, and streams "
            "are not cached"
        )
    if settings.optimization is not None:
        config = _optimized(config, settings.optimization)
    return config


def _optimized(config: ModelConfig, optimization: Optimization) -> ModelConfig:
    accelerators = optimization.execution_accelerators
    if accelerators is not None and config.backend == "tensorrt":
        optimization = optimization.model_copy(update={"execution_accelerators": None})
    elif accelerators is not None:
        if config.backend != "onnxruntime":
            raise SpecError(
                f"{config.name}: optimization.execution_accelerators are ONNX Runtime's; this "
                f"model runs on {config.backend}"
            )
        for field, known in _ACCELERATORS.items():
            for accelerator in getattr(accelerators, field):
                if accelerator.name not in known:
                    raise SpecError(
                        f"{config.name}: {field}: there is no '{accelerator.name}'; use "
                        f"{' or '.join(known)}"
                    )
    if optimization.graph is None:
        return replace(config, optimization=optimization)
    level = optimization.graph.level
    rest = optimization.model_copy(update={"graph": None})
    return replace(config, optimization=rest, graph_level=level)


def _built_stage(config: ModelConfig, settings: StageSettings) -> ModelConfig:
    """A stage that the builder writes."""
    if config.decoupled and sum(group.count for group in config.instance_group) > 1:
        raise SpecError(
            f"{config.name}: it has one instance, which answers all requests together; set slots "
            "instead of instance_group.count"
        )
    if isinstance(settings, spec.Batched):
        return replace(config, dynamic_batching=settings.dynamic_batching)
    if not isinstance(settings, BatchedStage) or settings.dynamic_batching is None:
        return config
    if config.decoupled:
        raise SpecError(
            f"{config.name}: dynamic_batching has no meaning here: its engine joins the requests "
            "itself"
        )
    preferred = max(settings.dynamic_batching.preferred_batch_size, default=0)
    if preferred > config.max_batch_size:
        raise SpecError(
            f"{config.name}: preferred_batch_size {preferred} is larger than its max_batch_size "
            f"{config.max_batch_size}"
        )
    return replace(config, dynamic_batching=settings.dynamic_batching)


def _with_warmup(config: ModelConfig, settings: StageSettings, base: Path) -> ModelConfig:
    if settings.model_warmup is None:
        return config
    made = made_tensors(config)
    optional = frozenset([*made, *(tensor.name for tensor in config.inputs if tensor.optional)])
    inputs = (*config.inputs, *made.values())
    requests, files = warmups(settings.model_warmup, inputs, optional, config.name, base)
    return replace(config, warmup=requests, files={**config.files, **files})

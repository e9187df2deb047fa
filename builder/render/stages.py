"""The model configs of a task model's stages."""

from collections.abc import Mapping, Sequence

from builder.render.model_config import (
    DynamicBatching,
    EnsembleStep,
    InstanceGroup,
    ModelConfig,
    Tensor,
    Warmup,
)
from builder.spec.task import TaskSpec

GRAPH_LEVELS = {"all": 0, "extended": 1, "basic": -1, "off": 2}
"""Triton's optimization.graph.level."""


def same(*tensors: Tensor) -> dict[str, str]:
    """An ensemble map that keeps the names."""
    return {tensor.name: tensor.name for tensor in tensors}


def python_stage(
    name: str,
    max_batch_size: int,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    *,
    count: int = 1,
    parameters: Mapping[str, str] | None = None,
) -> ModelConfig:
    """A Python stage, on the CPU everywhere."""
    return ModelConfig(
        kind="python",
        name=name,
        max_batch_size=max_batch_size,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        instances=InstanceGroup(count, "CPU"),
        dynamic_batching=DynamicBatching(),
        parameters=dict(parameters or {}),
    )


def graph_stage(
    spec: TaskSpec,
    name: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    warmup_dims: tuple[int, ...] | None = None,
) -> ModelConfig:
    """An exported graph; a client with tensors of its own calls it directly.

    Args:
        spec: The spec.
        name: Name of the model.
        inputs: Its inputs.
        outputs: Its outputs.
        warmup_dims: Dims of every input in the request that is run at load; None: the inputs' own.
    """
    stage = spec.model
    settings, batching = stage.onnxruntime, stage.dynamic_batching
    kind = stage.instances.kind.upper()
    device = kind if kind != "AUTO" else "CPU" if spec.target == "cpu" else "GPU"
    shapes = tuple(Tensor(t.name, t.data_type, warmup_dims or t.dims) for t in inputs)
    return ModelConfig(
        kind="onnxruntime",
        name=name,
        max_batch_size=stage.max_batch_size,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        instances=InstanceGroup(
            stage.instances.count, device, tuple(stage.instances.gpus) if device == "GPU" else ()
        ),
        dynamic_batching=DynamicBatching(
            tuple(batching.preferred_batch_size),
            batching.max_queue_delay_microseconds,
            batching.preserve_ordering,
        )
        if batching
        else None,
        parameters={
            "intra_op_thread_count": str(settings.intra_op_thread_count),
            "inter_op_thread_count": str(settings.inter_op_thread_count),
            "execution_mode": "1" if settings.execution_mode == "parallel" else "0",
        },
        graph_level=GRAPH_LEVELS[settings.graph_optimization],
        warmup=(Warmup("one", 1, shapes),),
    )


def ensemble(
    name: str,
    max_batch_size: int,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    steps: Sequence[EnsembleStep],
) -> ModelConfig:
    """The ensemble over the stages."""
    return ModelConfig(
        kind="ensemble",
        name=name,
        max_batch_size=max_batch_size,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        steps=tuple(steps),
    )

"""The model configs of a task model's stages."""

from collections.abc import Sequence

from builder.render.inputs import answered
from builder.render.model_config import (
    EnsembleStep,
    InstanceGroup,
    ModelConfig,
    Tensor,
    Warmup,
)
from builder.render.settings import GRAPH_LEVELS, instances, session_parameters
from builder.runtime.models.common.settings import Settings, to_parameters
from builder.spec.task import TaskSpec
from builder.spec.triton import DynamicBatching


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
    settings: Settings | None = None,
) -> ModelConfig:
    """A Python stage, on the CPU everywhere."""
    return ModelConfig(
        backend="python",
        name=name,
        max_batch_size=max_batch_size,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        instance_group=(InstanceGroup(count, "CPU"),),
        dynamic_batching=DynamicBatching(),
        parameters={} if settings is None else to_parameters(settings),
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
    shapes = tuple(Tensor(t.name, t.data_type, warmup_dims or t.dims) for t in inputs)
    return ModelConfig(
        backend="onnxruntime",
        name=name,
        max_batch_size=stage.max_batch_size,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        instance_group=(instances(stage.instances, spec.target),),
        dynamic_batching=stage.dynamic_batching,
        parameters=session_parameters(stage.onnxruntime),
        graph_level=GRAPH_LEVELS[stage.onnxruntime.graph_optimization],
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
        backend="ensemble",
        name=name,
        max_batch_size=max_batch_size,
        inputs=answered(inputs),
        outputs=tuple(outputs),
        steps=tuple(steps),
    )

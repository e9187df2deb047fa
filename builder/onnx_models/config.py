"""The model config of an ONNX file."""

from builder.render.model_config import (
    DynamicBatching,
    InstanceGroup,
    ModelConfig,
    Tensor,
)
from builder.render.stages import GRAPH_LEVELS
from builder.spec.onnx_file import OnnxSpec, OnnxTensor


def _tensor(tensor: OnnxTensor, *, batched: bool) -> Tensor:
    """A scalar is written as dims [1]; in a batch it is reshaped to none.

    https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_configuration.md#reshape
    """
    reshape = () if batched and not tensor.dims else None
    return Tensor(
        tensor.name,
        tensor.data_type,
        tuple(tensor.dims) or (1,),
        optional=tensor.optional,
        reshape=reshape,
    )


def model_config(spec: OnnxSpec) -> ModelConfig:
    """The config; nothing but the spec is read."""
    model = spec.model
    kind = model.instances.kind.upper()
    device = kind if kind != "AUTO" else "CPU" if spec.target == "cpu" else "GPU"
    batching, settings = model.dynamic_batching, model.onnxruntime
    batched = bool(model.max_batch_size)
    return ModelConfig(
        kind="onnxruntime",
        name=spec.name,
        max_batch_size=model.max_batch_size,
        inputs=tuple(_tensor(tensor, batched=batched) for tensor in spec.inputs),
        outputs=tuple(_tensor(tensor, batched=batched) for tensor in spec.outputs),
        instances=InstanceGroup(
            model.instances.count, device, tuple(model.instances.gpus) if device == "GPU" else ()
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
    )

"""The model config of an ONNX file."""

from builder.render.model_config import ModelConfig, Tensor
from builder.render.settings import (
    GRAPH_LEVELS,
    dynamic_batching,
    instances,
    session_parameters,
)
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
    batched = bool(model.max_batch_size)
    return ModelConfig(
        kind="onnxruntime",
        name=spec.name,
        max_batch_size=model.max_batch_size,
        inputs=tuple(_tensor(tensor, batched=batched) for tensor in spec.inputs),
        outputs=tuple(_tensor(tensor, batched=batched) for tensor in spec.outputs),
        instances=instances(model.instances, spec.target),
        dynamic_batching=dynamic_batching(model.dynamic_batching),
        parameters=session_parameters(model.onnxruntime),
        graph_level=GRAPH_LEVELS[model.onnxruntime.graph_optimization],
    )

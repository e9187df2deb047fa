"""A model config as Triton's own message, and the check that a template said the same."""

from typing import Any, Final

from google.protobuf import json_format, text_format
from google.protobuf.message import Message
from pydantic import BaseModel
from tritonclient.grpc import model_config_pb2 as pb

from builder.errors import RenderError
from builder.render.model_config import BACKENDS, InstanceGroup, ModelConfig, Tensor, Warmup

_PLATFORMS: Final = {
    "ensemble": "ensemble",
    "onnxruntime": "onnxruntime_onnx",
    "tensorrt": "tensorrt_plan",
}
_FILES: Final = {"python": "model.py", "onnxruntime": "model.onnx", "tensorrt": "model.plan"}


def _as_in_proto(value: Any) -> Any:
    """Data types get the prefix that a spec leaves out."""
    if isinstance(value, dict):
        return {
            key: f"TYPE_{part}" if key == "data_type" else _as_in_proto(part)
            for key, part in value.items()
        }
    if isinstance(value, list):
        return [_as_in_proto(part) for part in value]
    return value


def _fill(message: Message, settings: BaseModel) -> None:
    """A section that the spec has under the proto's own names."""
    message.SetInParent()
    values = settings.model_dump(mode="json", by_alias=True, exclude_none=True)
    json_format.ParseDict(_as_in_proto(values), message)


def _identity(config: ModelConfig, proto: pb.ModelConfig) -> None:
    proto.platform = _PLATFORMS.get(config.backend, "")
    proto.backend = BACKENDS.get(config.backend, "")
    proto.default_model_filename = _FILES.get(config.backend, "")
    proto.runtime = config.runtime


def _inputs(config: ModelConfig, proto: pb.ModelConfig) -> None:
    for tensor in config.inputs:
        made = proto.input.add(
            name=tensor.name,
            data_type=f"TYPE_{tensor.data_type}",
            format=tensor.format,
            dims=tensor.dims,
            optional=tensor.optional,
            allow_ragged_batch=tensor.allow_ragged_batch,
            is_shape_tensor=tensor.is_shape_tensor,
            is_non_linear_format_io=tensor.is_non_linear_format_io,
        )
        _reshape(tensor, made)


def _outputs(config: ModelConfig, proto: pb.ModelConfig) -> None:
    for tensor in config.outputs:
        made = proto.output.add(
            name=tensor.name,
            data_type=f"TYPE_{tensor.data_type}",
            dims=tensor.dims,
            label_filename=tensor.label_filename,
            is_shape_tensor=tensor.is_shape_tensor,
            is_non_linear_format_io=tensor.is_non_linear_format_io,
        )
        _reshape(tensor, made)


def _reshape(tensor: Tensor, made: pb.ModelInput | pb.ModelOutput) -> None:
    if tensor.reshape is not None:
        made.reshape.SetInParent()
        made.reshape.shape.extend(tensor.reshape)


def _batch_io(config: ModelConfig, proto: pb.ModelConfig) -> None:
    for batch_input in config.batch_input:
        _fill(proto.batch_input.add(), batch_input)
    for batch_output in config.batch_output:
        _fill(proto.batch_output.add(), batch_output)


def _instances(config: ModelConfig, proto: pb.ModelConfig) -> None:
    for group in config.instance_group:
        _instance_group(group, proto.instance_group.add())


def _instance_group(group: InstanceGroup, made: pb.ModelInstanceGroup) -> None:
    made.name = group.name
    made.count = group.count
    made.kind = pb.ModelInstanceGroup.Kind.Value(f"KIND_{group.kind}")
    made.gpus.extend(group.gpus)
    made.profile.extend(group.profile)
    made.passive = group.passive
    made.host_policy = group.host_policy
    if group.rate_limiter is not None:
        _fill(made.rate_limiter, group.rate_limiter)
    for device in group.secondary_devices:
        _fill(made.secondary_devices.add(), device)


def _batcher(config: ModelConfig, proto: pb.ModelConfig) -> None:
    if config.dynamic_batching is not None:
        _fill(proto.dynamic_batching, config.dynamic_batching)
    if config.sequence_batching is not None:
        _fill(proto.sequence_batching, config.sequence_batching)


def _steps(config: ModelConfig, proto: pb.ModelConfig) -> None:
    for step in config.steps:
        proto.ensemble_scheduling.step.add(
            model_name=step.model_name,
            model_version=step.model_version,
            input_map=step.input_map,
            output_map=step.output_map,
        )
    if config.max_inflight_requests:
        proto.ensemble_scheduling.max_inflight_requests = config.max_inflight_requests


def _optimization(config: ModelConfig, proto: pb.ModelConfig) -> None:
    if config.optimization is not None:
        _fill(proto.optimization, config.optimization)
    if config.graph_level is not None:
        proto.optimization.graph.SetInParent()
        proto.optimization.graph.level = config.graph_level


def _warmup(config: ModelConfig, proto: pb.ModelConfig) -> None:
    for warmup in config.warmup:
        _sample(warmup, proto.model_warmup.add())


def _sample(warmup: Warmup, made: pb.ModelWarmup) -> None:
    made.name, made.batch_size, made.count = warmup.name, warmup.batch_size, warmup.count
    for tensor in warmup.inputs:
        entry = made.inputs[tensor.name]
        entry.data_type = pb.DataType.Value(f"TYPE_{tensor.data_type}")
        entry.dims.extend(tensor.dims)
        if tensor.name in warmup.files:
            entry.input_data_file = warmup.files[tensor.name]
        elif tensor.name in warmup.random:
            entry.random_data = True
        else:
            entry.zero_data = True


def _answers(config: ModelConfig, proto: pb.ModelConfig) -> None:
    if config.decoupled:
        proto.model_transaction_policy.decoupled = True
    if config.response_cache is not None:
        proto.response_cache.SetInParent()
        proto.response_cache.enable = config.response_cache


def _versions(config: ModelConfig, proto: pb.ModelConfig) -> None:
    if config.version_policy is not None:
        _fill(proto.version_policy, config.version_policy)


def _metrics(config: ModelConfig, proto: pb.ModelConfig) -> None:
    proto.metric_tags.update(config.metric_tags)
    if config.model_metrics is not None:
        _fill(proto.model_metrics, config.model_metrics)


def _parameters(config: ModelConfig, proto: pb.ModelConfig) -> None:
    for key, value in config.parameters.items():
        proto.parameters[key].string_value = value
    if config.op_library_filename:
        proto.model_operations.op_library_filename.extend(config.op_library_filename)


_SECTIONS: Final = (
    _identity,
    _inputs,
    _outputs,
    _batch_io,
    _instances,
    _batcher,
    _steps,
    _optimization,
    _warmup,
    _answers,
    _versions,
    _metrics,
    _parameters,
)


def to_proto(config: ModelConfig) -> pb.ModelConfig:
    """The official protobuf message of a config, one function a section."""
    proto = pb.ModelConfig(name=config.name, max_batch_size=config.max_batch_size)
    for section in _SECTIONS:
        section(config, proto)
    return proto


def check_rendered(config: ModelConfig, text: str) -> None:
    """Parse a rendered config back and compare it field by field.

    Raises:
        RenderError: it does not parse, or a field differs.
    """
    try:
        parsed = text_format.Parse(text, pb.ModelConfig())
    except text_format.ParseError as error:
        raise RenderError(f"{config.name}/config.pbtxt does not parse: {error}") from error
    expected = to_proto(config)
    for descriptor in pb.ModelConfig.DESCRIPTOR.fields:
        name = descriptor.name
        if getattr(parsed, name) != getattr(expected, name):
            raise RenderError(
                f"{config.name}/config.pbtxt: field '{name}' was rendered as "
                f"{getattr(parsed, name)!r}, not {getattr(expected, name)!r}"
            )
    if parsed != expected:
        raise RenderError(
            f"{config.name}/config.pbtxt has or lacks a field that its config does not"
        )

"""A Triton model config, typed: what the templates render and what they are checked against."""

from dataclasses import dataclass, field

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from builder.errors import RenderError


@dataclass(frozen=True)
class Tensor:
    """One input or output.

    Attributes:
        name: Tensor name.
        data_type: Without `TYPE_`: UINT8, INT32, FP32, STRING ...
        dims: Without the batch dim; -1 is a free dim.
        optional: Inputs only: a request may leave it out.
        reshape: Dims that the backend sees in the place of `dims`; None: the same.
    """

    name: str
    data_type: str
    dims: tuple[int, ...]
    optional: bool = False
    reshape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class InstanceGroup:
    """How many instances run, and where: kind is AUTO, CPU, GPU or MODEL (the model decides)."""

    count: int = 1
    kind: str = "CPU"
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True)
class DynamicBatching:
    """The dynamic batcher; the delay is in microseconds."""

    preferred_batch_size: tuple[int, ...] = ()
    max_queue_delay_microseconds: int = 0
    preserve_ordering: bool = False


@dataclass(frozen=True)
class EnsembleStep:
    """One step of an ensemble; maps go from the step's tensor to the ensemble's.

    `model_version` -1 is Triton's word for the newest that is loaded.
    """

    model_name: str
    input_map: dict[str, str]
    output_map: dict[str, str]
    model_version: int = -1


@dataclass(frozen=True)
class Warmup:
    """One request with zeros for every input, run at load."""

    name: str
    batch_size: int
    inputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class ModelConfig:
    """One model of a repository. `kind` names the template: config/<kind>.pbtxt.j2."""

    kind: str
    name: str
    max_batch_size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    instances: InstanceGroup | None = None
    dynamic_batching: DynamicBatching | None = None
    decoupled: bool = False
    parameters: dict[str, str] = field(default_factory=dict)
    graph_level: int | None = None
    warmup: tuple[Warmup, ...] = ()
    steps: tuple[EnsembleStep, ...] = ()


_BACKENDS = {
    "python": "python",
    "onnxruntime": "onnxruntime",
    "tensorrt": "tensorrt",
    "vllm": "vllm",
}
_PLATFORMS = {
    "ensemble": "ensemble",
    "onnxruntime": "onnxruntime_onnx",
    "tensorrt": "tensorrt_plan",
}
_FILES = {"python": "model.py", "onnxruntime": "model.onnx", "tensorrt": "model.plan"}


def _tensors(config: ModelConfig, proto: pb.ModelConfig) -> None:
    for tensor in config.inputs:
        made = proto.input.add(
            name=tensor.name,
            data_type=f"TYPE_{tensor.data_type}",
            dims=tensor.dims,
            optional=tensor.optional,
        )
        _reshape(tensor, made)
    for tensor in config.outputs:
        _reshape(
            tensor,
            proto.output.add(
                name=tensor.name, data_type=f"TYPE_{tensor.data_type}", dims=tensor.dims
            ),
        )


def _reshape(tensor: Tensor, made: pb.ModelInput | pb.ModelOutput) -> None:
    if tensor.reshape is not None:
        made.reshape.SetInParent()
        made.reshape.shape.extend(tensor.reshape)


def _scheduling(config: ModelConfig, proto: pb.ModelConfig) -> None:
    if config.instances is not None:
        proto.instance_group.add(
            count=config.instances.count,
            kind=f"KIND_{config.instances.kind}",
            gpus=config.instances.gpus,
        )
    if config.dynamic_batching is not None:
        batching = config.dynamic_batching
        proto.dynamic_batching.SetInParent()
        proto.dynamic_batching.preferred_batch_size.extend(batching.preferred_batch_size)
        delay = batching.max_queue_delay_microseconds
        proto.dynamic_batching.max_queue_delay_microseconds = delay
        proto.dynamic_batching.preserve_ordering = batching.preserve_ordering
    for step in config.steps:
        proto.ensemble_scheduling.step.add(
            model_name=step.model_name,
            model_version=step.model_version,
            input_map=step.input_map,
            output_map=step.output_map,
        )


def _running(config: ModelConfig, proto: pb.ModelConfig) -> None:
    if config.decoupled:
        proto.model_transaction_policy.decoupled = True
    if config.graph_level is not None:
        proto.optimization.graph.level = config.graph_level
    for key, value in config.parameters.items():
        proto.parameters[key].string_value = value
    for warmup in config.warmup:
        sample = proto.model_warmup.add(name=warmup.name, batch_size=warmup.batch_size)
        for tensor in warmup.inputs:
            entry = sample.inputs[tensor.name]
            entry.data_type = pb.DataType.Value(f"TYPE_{tensor.data_type}")
            entry.dims.extend(tensor.dims)
            entry.zero_data = True


def to_proto(config: ModelConfig) -> pb.ModelConfig:
    """The official protobuf message of a config, one function a section."""
    proto = pb.ModelConfig(name=config.name, max_batch_size=config.max_batch_size)
    proto.platform = _PLATFORMS.get(config.kind, "")
    proto.backend = _BACKENDS.get(config.kind, "")
    proto.default_model_filename = _FILES.get(config.kind, "")
    _tensors(config, proto)
    _scheduling(config, proto)
    _running(config, proto)
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

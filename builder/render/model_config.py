"""A Triton model config, typed: what the templates render and what they are checked against.

Sections that a user writes as they are, a batcher for instance, have the spec's own types.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from builder.spec.triton import (
    BatchInput,
    BatchOutput,
    DynamicBatching,
    ModelMetrics,
    Optimization,
    RateLimiter,
    SecondaryDevice,
    SequenceBatching,
    VersionPolicy,
)


@dataclass(frozen=True)
class Tensor:
    """One input or output.

    Attributes:
        name: Tensor name.
        data_type: Without `TYPE_`: UINT8, INT32, FP32, STRING ...
        dims: Without the batch dim; -1 is a free dim.
        optional: Inputs only: a request may leave it out.
        reshape: Dims that the backend sees in the place of `dims`; None: the same.
        allow_ragged_batch: Inputs only: requests with other dims may share a batch.
        format: Inputs only: FORMAT_NHWC, FORMAT_NCHW; FORMAT_NONE: neither.
        label_filename: Outputs only: file with a label a line in the model's folder; "": none.
        is_shape_tensor: TensorRT only.
        is_non_linear_format_io: TensorRT only.
    """

    name: str
    data_type: str
    dims: tuple[int, ...]
    optional: bool = False
    reshape: tuple[int, ...] | None = None
    allow_ragged_batch: bool = False
    format: str = "FORMAT_NONE"
    label_filename: str = ""
    is_shape_tensor: bool = False
    is_non_linear_format_io: bool = False


@dataclass(frozen=True)
class InstanceGroup:
    """How many instances run, and where.

    Attributes:
        count: Instances, on each GPU where there are several.
        kind: AUTO, CPU, GPU or MODEL (the model decides).
        gpus: CUDA devices; none: all.
        name: "": Triton makes one.
        rate_limiter: Priority and resources; None: neither.
        secondary_devices: Devices beside the GPU.
        profile: Optimization profiles of TensorRT.
        passive: Loaded, and given no requests.
        host_policy: Name of a policy of the server; "": the device's own.
    """

    count: int = 1
    kind: str = "CPU"
    gpus: tuple[int, ...] = ()
    name: str = ""
    rate_limiter: RateLimiter | None = None
    secondary_devices: tuple[SecondaryDevice, ...] = ()
    profile: tuple[str, ...] = ()
    passive: bool = False
    host_policy: str = ""


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
    """One request that is run at load.

    Attributes:
        name: Its name, for Triton's log.
        batch_size: Copies of the sample in the request.
        inputs: Tensors with fixed dims, without the batch dim; zeros unless named below.
        random: Inputs with random values.
        files: Input -> file in the model's folder `warmup`.
        count: Times that it runs; 0: once.
    """

    name: str
    batch_size: int
    inputs: tuple[Tensor, ...]
    random: frozenset[str] = frozenset()
    files: Mapping[str, str] = field(default_factory=dict)
    count: int = 0


@dataclass(frozen=True)
class ModelConfig:
    """One model of a repository. `backend` names the template: config/<backend>.pbtxt.j2.

    `files` is no part of the config: what its fields refer to, by path in the model's folder.
    """

    backend: str
    name: str
    max_batch_size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    instance_group: tuple[InstanceGroup, ...] = ()
    dynamic_batching: DynamicBatching | None = None
    sequence_batching: SequenceBatching | None = None
    decoupled: bool = False
    parameters: dict[str, str] = field(default_factory=dict)
    graph_level: int | None = None
    optimization: Optimization | None = None
    warmup: tuple[Warmup, ...] = ()
    steps: tuple[EnsembleStep, ...] = ()
    max_inflight_requests: int = 0
    batch_input: tuple[BatchInput, ...] = ()
    batch_output: tuple[BatchOutput, ...] = ()
    response_cache: bool | None = None
    version_policy: VersionPolicy | None = None
    metric_tags: Mapping[str, str] = field(default_factory=dict)
    model_metrics: ModelMetrics | None = None
    op_library_filename: tuple[str, ...] = ()
    runtime: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def optimized(self) -> bool:
        """Whether there is an `optimization` section."""
        return self.graph_level is not None or self.optimization is not None


BACKENDS: Mapping[str, str] = {
    "python": "python",
    "onnxruntime": "onnxruntime",
    "tensorrt": "tensorrt",
    "vllm": "vllm",
}
"""Kind -> backend; an ensemble has none."""

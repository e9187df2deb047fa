"""The spec of an ONNX file: the file is served as it is, tensors in, tensors out."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from builder.spec.batching import (
    DynamicBatching,
    InstanceGroup,
    OnnxRuntime,
    PositiveInt,
    Strict,
)
from builder.spec.language import MODEL_NAME
from builder.spec.models import Tolerance

OnnxDataType = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "STRING",
]


class OnnxFile(Strict):
    """The source."""

    path: str = Field(min_length=1, description="The .onnx file, relative to the spec file.")
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="Hash of the file that the spec was written for; another one is refused.",
    )


class OnnxTensor(Strict):
    """An input or output of the graph."""

    name: str = Field(min_length=1)
    data_type: OnnxDataType
    dims: list[Annotated[int, Field(ge=-1)]] = Field(
        description="As in the graph, -1 for a free dim, [] for a scalar; without the batch dim "
        "where max_batch_size is above 0."
    )
    optional: bool = Field(
        default=False, description="Inputs with an initializer in the graph: may be left out."
    )

    @model_validator(mode="after")
    def _no_dim_is_empty(self) -> "OnnxTensor":
        if 0 in self.dims:
            raise ValueError(f"{self.name} has a dim of 0, which Triton doesn't take")
        return self


class OnnxModel(Strict):
    """Batching, instances and session settings."""

    max_batch_size: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Most rows in one run; 0: the graph has no batch dim."
    )
    dynamic_batching: DynamicBatching | None = Field(
        default=None, description="null turns the dynamic batcher off."
    )
    instances: InstanceGroup = Field(default_factory=InstanceGroup)
    onnxruntime: OnnxRuntime = Field(default_factory=OnnxRuntime)

    @model_validator(mode="after")
    def _batcher_has_a_batch_dim(self) -> "OnnxModel":
        if self.dynamic_batching is None:
            return self
        if not self.max_batch_size:
            raise ValueError("dynamic_batching needs a max_batch_size above 0")
        for size in self.dynamic_batching.preferred_batch_size:
            if size > self.max_batch_size:
                raise ValueError(
                    f"preferred_batch_size {size} is larger than max_batch_size "
                    f"{self.max_batch_size}"
                )
        return self


class OnnxVerify(Strict):
    """Inputs that the published file is verified with."""

    dims: dict[str, PositiveInt] = Field(
        default_factory=dict,
        description="Sizes of free dims, by the graph's name for them, else INPUT.AXIS; left out: "
        "sizes that the graph runs with are looked for.",
    )
    ranges: dict[str, tuple[int, int]] = Field(
        default_factory=dict,
        description="Least and greatest value of an integer input; left out: from the graph.",
    )
    random: bool = Field(
        default=False,
        description="The graph draws random numbers: types and ranks of its outputs are compared, "
        "values can't be.",
    )
    seconds: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="Its runs here are ended after this many seconds; left out: by the file's "
        "size, 50 for a small one.",
    )
    memory_gib: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="Memory that the process of its runs may take, in GiB; left out: by the file's "
        "size, 3 for a small one.",
    )

    @model_validator(mode="after")
    def _ranges_ascend(self) -> "OnnxVerify":
        for name, (low, high) in self.ranges.items():
            if low > high:
                raise ValueError(f"the range of {name}, {low} to {high}, is empty")
        return self


class OnnxSpec(Strict):
    """One ONNX file that becomes one model."""

    name: str = Field(pattern=MODEL_NAME, description="Name of the model.")
    onnx: OnnxFile
    triton_release: str = Field(
        default="24.10",
        pattern=r"^\d{2}\.\d{2}$",
        description="Server release that the repository is built for; bounds opset and IR.",
    )
    target: Literal["cpu", "gpu"] = "cpu"
    model: OnnxModel = Field(default_factory=OnnxModel)
    inputs: list[OnnxTensor] = Field(min_length=1)
    outputs: list[OnnxTensor] = Field(
        min_length=1, description="Outputs of the graph that are served; others are left out."
    )
    verify: OnnxVerify = Field(default_factory=OnnxVerify)
    tolerance: Tolerance = Field(
        default_factory=lambda: Tolerance(max_abs_error=1e-3, min_cosine=0.9999),
        description="How far the served file may be from the source, both in ONNX Runtime.",
    )

    @model_validator(mode="after")
    def _optional_inputs_do_not_batch(self) -> "OnnxSpec":
        for tensor in self.inputs:
            if tensor.optional and self.model.max_batch_size:
                raise ValueError(
                    f"input {tensor.name} is optional, which needs max_batch_size 0: requests "
                    "without it can't be joined with others"
                )
        return self

"""The spec of an ONNX file: the file is served as it is, tensors in, tensors out."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from builder.spec.batching import OnnxRuntime, PositiveInt, Strict
from builder.spec.language import MODEL_NAME
from builder.spec.models import Tolerance
from builder.spec.releases import DEFAULT_RELEASE, TritonRelease
from builder.spec.triton.model import TritonModel
from builder.spec.triton.tensors import Format, require_format

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


class OnnxInput(OnnxTensor):
    """An input of the graph that requests have."""

    allow_ragged_batch: bool = Field(
        default=False,
        description="Requests with other dims may share a batch. The graph's input is [-1]: the "
        "values of all requests, one after the other; `model.batch_input` says where each ends.",
    )
    format: Format = "FORMAT_NONE"

    @model_validator(mode="after")
    def _goes_together(self) -> "OnnxInput":
        require_format(self.name, self.format, self.dims)
        if self.optional and self.allow_ragged_batch:
            raise ValueError(f"{self.name} can't be optional and have allow_ragged_batch")
        return self


class OnnxOutput(OnnxTensor):
    """An output of the graph that is served."""

    label_filename: str | None = Field(
        default=None,
        min_length=1,
        description="A file with a label a line, relative to the spec file; it is copied into the "
        "model's folder.",
    )


class OnnxModel(TritonModel):
    """Batching, instances and session settings."""

    max_batch_size: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Most rows in one run; 0: the graph has no batch dim."
    )
    onnxruntime: OnnxRuntime = Field(default_factory=OnnxRuntime)

    @model_validator(mode="after")
    def _answers_once(self) -> "OnnxModel":
        if self.model_transaction_policy.decoupled:
            raise ValueError("model_transaction_policy.decoupled: a graph answers exactly once")
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
    triton_release: TritonRelease = Field(
        default=DEFAULT_RELEASE,
        pattern=r"^\d{2}\.\d{2}$",
        description="Server release that the repository is built for; bounds opset and IR.",
    )
    target: Literal["cpu", "gpu"] = "cpu"
    model: OnnxModel = Field(default_factory=OnnxModel)
    inputs: list[OnnxInput] = Field(
        min_length=1,
        description="What a request has; not the controls, states and `batch_input` of `model`, "
        "which the server makes.",
    )
    outputs: list[OnnxOutput] = Field(
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

    @model_validator(mode="after")
    def _ragged_inputs_batch(self) -> "OnnxSpec":
        for tensor in self.inputs:
            if tensor.allow_ragged_batch and not self.model.max_batch_size:
                raise ValueError(
                    f"allow_ragged_batch of input {tensor.name} needs a max_batch_size above 0"
                )
        return self

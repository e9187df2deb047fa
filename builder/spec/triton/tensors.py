"""`input` and `output`, where a user declares them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from builder.spec.base import Strict

DataType = Literal[
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
    "BF16",
]
Dim = Annotated[int, Field(ge=-1)]
Format = Literal["FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW"]


def require_dims(name: str, dims: list[int]) -> None:
    """Refuse dims that Triton does not take.

    Raises:
        ValueError: there is none, or one is 0.
    """
    if not dims:
        raise ValueError(f"{name} has no dims; a single value has the dims [1]")
    if 0 in dims:
        raise ValueError(f"{name} has a dim of 0, which Triton doesn't take")


class Reshape(Strict):
    """The dims that the model sees in the place of a client's."""

    shape: list[Dim]


class _Tensor(Strict):
    name: str = Field(min_length=1)
    data_type: DataType
    dims: list[Dim] = Field(
        description="-1 for a free dim; without the batch dim where max_batch_size is above 0."
    )
    reshape: Reshape | None = None
    is_shape_tensor: bool = Field(default=False, description="TensorRT only.")
    is_non_linear_format_io: bool = Field(default=False, description="TensorRT only.")

    @model_validator(mode="after")
    def _dims_are_sound(self) -> "_Tensor":
        require_dims(self.name, self.dims)
        return self


class ModelInput(_Tensor):
    """An input of a model."""

    optional: bool = Field(default=False, description="A request may leave it out.")
    allow_ragged_batch: bool = Field(
        default=False,
        description="Requests with other dims may share a batch; the model gets them flat, one "
        "after the other.",
    )
    format: Format = "FORMAT_NONE"

    @model_validator(mode="after")
    def _format_is_of_pictures(self) -> "ModelInput":
        require_format(self.name, self.format, self.dims)
        return self


class ModelOutput(_Tensor):
    """An output of a model."""

    label_filename: str | None = Field(
        default=None,
        min_length=1,
        description="A file with a label a line, relative to the spec file; it is copied into the "
        "model's folder.",
    )


def require_format(name: str, format_: Format, dims: list[int]) -> None:
    """Refuse a format that the dims have no place for.

    Raises:
        ValueError: FORMAT_NHWC or FORMAT_NCHW without three dims.
    """
    if format_ != "FORMAT_NONE" and len(dims) != 3:
        raise ValueError(f"{name} has {len(dims)} dims; format {format_} needs dims of 3")

"""`model_warmup`: requests that run before a model is ready."""

from typing import Any

from pydantic import Field, model_validator

from builder.spec.base import PositiveInt, Strict, UInt32


class WarmupInput(Strict):
    """A tensor of a warmup request; its data type is the model's own."""

    dims: list[PositiveInt] | None = Field(
        default=None,
        min_length=1,
        description="Without the batch dim. null: those of `values` or of a .npy file, else the "
        "model's own, which must be fixed then.",
    )
    zero_data: bool | None = None
    random_data: bool | None = None
    input_data_file: str | None = Field(
        default=None,
        min_length=1,
        description="A real sample: a .npy or raw file, relative to the spec file; it is written "
        "into the model's folder `warmup`.",
    )
    values: list[Any] | str | None = Field(
        default=None,
        description="A real sample, written here: texts or numbers; it becomes an input_data_file.",
    )

    @model_validator(mode="after")
    def _has_data_once(self) -> "WarmupInput":
        choices = ("zero_data", "random_data", "input_data_file", "values")
        given = [choice for choice in choices if getattr(self, choice) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(choices)}, not {' and '.join(given) or '0'}")
        return self


class ModelWarmup(Strict):
    """One warmup request."""

    name: str = Field(min_length=1)
    batch_size: PositiveInt = Field(default=1, description="Copies of the sample in the request.")
    inputs: dict[str, WarmupInput] = Field(min_length=1)
    count: UInt32 = Field(default=0, description="Times that it runs; 0: once.")

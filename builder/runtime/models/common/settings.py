"""Settings of a stage, as they stand in its model config's parameters."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DTYPES = {
    "TYPE_INT64": np.int64,
    "TYPE_INT32": np.int32,
    "TYPE_FP32": np.float32,
    "TYPE_UINT8": np.uint8,
    "TYPE_BOOL": np.bool_,
}


PARAMETERS_NAME = "parameters.json"
"""Beside the sources, where several versions share one config: the parameters of this one."""


def config_values(config: Mapping[str, Any]) -> dict[str, str]:
    """Parameters of a model config, as Triton hands it to a Python model."""
    values = {name: entry["string_value"] for name, entry in config["parameters"].items()}
    own = Path(__file__).with_name(PARAMETERS_NAME)
    return {**values, **json.loads(own.read_text())} if own.is_file() else values


def required_inputs(config: Mapping[str, Any]) -> list[str]:
    """Inputs that a request must have. Triton counts inputs: where some are optional, a request
    that lacks one of these and has one of those gets through to the model."""
    return [tensor["name"] for tensor in config["input"] if not tensor.get("optional")]


def missing_input(name: str) -> str:
    """The sentence for a client that left one of them out."""
    return f"the input {name} is missing"


@dataclass(frozen=True)
class WarmUp:
    """Shapes that are run at load, so that no request pays for preparing them.

    Attributes:
        shapes: Input -> dims without the batch dim, once for each.
        batch_sizes: Ascending.
        dtypes: Input -> `TYPE_INT64` and the like.
    """

    shapes: Sequence[Mapping[str, Sequence[int]]]
    batch_sizes: Sequence[int]
    dtypes: Mapping[str, str]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "WarmUp":
        """What a model config asks for."""
        values = config_values(config)
        return cls(
            json.loads(values["warmup_shapes"]),
            json.loads(values["warmup_batch_sizes"]),
            {io["name"]: io["data_type"] for io in config["input"]},
        )

    def batches(self) -> "list[dict[str, NDArray[Any]]]":
        """Ones for every shape and batch size: real tokens all of them, so that none is masked."""
        return [
            {
                name: np.ones((size, *dims), _DTYPES[self.dtypes[name]])
                for name, dims in shape.items()
            }
            for shape in self.shapes
            for size in self.batch_sizes
        ]

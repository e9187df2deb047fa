"""Settings of a stage, as they stand in its model config's parameters."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

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


class Settings(Protocol):
    """A dataclass. Its fields are str, bool, int, float, tuples, lists, dicts with texts as keys,
    dataclasses, `... | None` of these, or Any (what JSON has)."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


_Settings = TypeVar("_Settings", bound=Settings)


def to_parameters(settings: Settings) -> dict[str, str]:
    """Settings as parameters of a model config: a str as it is, anything else as JSON."""
    hints = get_type_hints(type(settings))
    return {
        name: value if hints[name] is str else json.dumps(value, ensure_ascii=False)
        for name, value in asdict(settings).items()
    }


def from_parameters(cls: type[_Settings], values: Mapping[str, str]) -> _Settings:
    """What `to_parameters` wrote; parameters that `cls` does not have are left alone.

    Raises:
        ValueError: a parameter is missing, or is not what the field's annotation says.
    """
    hints = get_type_hints(cls)
    found: dict[str, Any] = {}
    for field in fields(cls):
        name, hint = field.name, hints[field.name]
        if name not in values:
            raise ValueError(f"the parameter {name} is missing")
        try:
            found[name] = values[name] if hint is str else _value(json.loads(values[name]), hint)
        except (ValueError, OverflowError):
            raise ValueError(
                f"the parameter {name} is {values[name]!r}, not {_spelled(hint)}"
            ) from None
    return cls(**found)


def read_settings(cls: type[_Settings], config: Mapping[str, Any]) -> _Settings:
    """Settings from a model config, as Triton hands it to a Python model.

    Raises:
        ValueError: a parameter is missing, or is not what the field's annotation says.
    """
    return from_parameters(cls, config_values(config))


def _value(value: Any, hint: Any) -> Any:
    """A value of JSON as a type has it; a ValueError where it is of another."""
    if hint is Any:
        return value
    if is_dataclass(hint):
        return _nested(value, hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        (inner,) = (argument for argument in arguments if argument is not NoneType)
        return None if value is None else _value(value, inner)
    if origin in (tuple, list, dict):
        return _several(value, origin, arguments)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:  # JSON's true is no number
        raise ValueError
    return value


def _several(value: Any, origin: Any, arguments: tuple[Any, ...]) -> Any:
    kind: Any = dict if origin is dict else list
    if type(value) is not kind:
        raise ValueError
    if origin is dict:
        return {key: _value(each, arguments[1]) for key, each in value.items()}
    if origin is list or arguments[1:] == (...,):
        return origin(_value(each, arguments[0]) for each in value)
    return tuple(_value(each, own) for each, own in zip(value, arguments, strict=True))


def _nested(value: Any, cls: Any) -> Any:
    hints = get_type_hints(cls)
    if not isinstance(value, dict) or set(value) != {field.name for field in fields(cls)}:
        raise ValueError
    return cls(**{name: _value(each, hints[name]) for name, each in value.items()})


def _spelled(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)


@dataclass(frozen=True)
class GraphSettings:
    """What the stages that run a graph in Python have in common.

    Attributes:
        index_limits: Input of token ids and the like -> rows of the table that it indexes.
        threads: Threads of a run; 0: the engine decides.
        warmup_batch_sizes: Batch sizes that are run at load, ascending.
        warmup_shapes: Input -> dims without the batch dim, once for each shape run at load.
    """

    index_limits: dict[str, int]
    threads: int
    warmup_batch_sizes: tuple[int, ...]
    warmup_shapes: tuple[dict[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class WarmUp:
    """Shapes that are run at load, so that no request pays for preparing them.

    Attributes:
        settings: Shapes and batch sizes.
        dtypes: Input -> `TYPE_INT64` and the like.
    """

    settings: GraphSettings
    dtypes: Mapping[str, str]

    @classmethod
    def of(cls, settings: GraphSettings, config: Mapping[str, Any]) -> "WarmUp":
        """What a model config asks for."""
        return cls(settings, {io["name"]: io["data_type"] for io in config["input"]})

    def batches(self) -> "list[dict[str, NDArray[Any]]]":
        """Ones for every shape and batch size: real tokens all of them, so that none is masked."""
        return [
            {
                name: np.ones((size, *dims), _DTYPES[self.dtypes[name]])
                for name, dims in shape.items()
            }
            for shape in self.settings.warmup_shapes
            for size in self.settings.warmup_batch_sizes
        ]

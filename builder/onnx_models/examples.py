"""Inputs that a graph runs with: seeded values, and sizes for its free dims."""

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from builder.errors import CheckpointError
from builder.onnx_models.process import said
from builder.onnx_models.ranges import Range
from builder.onnx_models.signature import GraphTensor

Arrays = dict[str, NDArray[Any]]
Dims = Mapping[str, int]

_NUMPY: Final[dict[str, Any]] = {
    "BOOL": np.bool_,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "STRING": np.object_,
}
_WORDS: Final = ("monday", "tuesday", "a", "Triton", "", "ünïcode", "the quick brown fox")
_SIZES: Final = (16, 32, 64, 48, 224, 320, 512, 256, 576, 128, 8, 4, 3, 2, 1)
_SINGLE: Final = (1, 2, 16, 64, 512, 256, 576, 224)
_MOST_ELEMENTS: Final = 1 << 22
_SECONDS: Final = 25.0
_DEFAULT_RANGES: Final[tuple[Range, ...]] = ((0, 99), (0, 1), (1, 1))


def numpy_type(data_type: str) -> Any:
    """numpy's type of a Triton data type."""
    return _NUMPY.get(data_type) or np.dtype(data_type.lower()).type


@dataclass(frozen=True)
class Example:
    """How inputs are made.

    Attributes:
        tensors: The inputs.
        dims: Size of every free dim.
        ranges: Values of integer inputs.
    """

    tensors: tuple[GraphTensor, ...]
    dims: dict[str, int] = field(default_factory=dict)
    ranges: dict[str, Range] = field(default_factory=dict)

    def shape(self, tensor: GraphTensor, rows: int | None = None) -> tuple[int, ...]:
        """Sizes of a tensor; `rows` in the place of the first one."""
        sizes = [dim if isinstance(dim, int) else self.dims[dim] for dim in tensor.dims]
        return tuple(sizes if rows is None else [rows, *sizes[1:]])

    def make(self, seed: int, rows: int | None = None, *, zeros: bool = False) -> Arrays:
        """Inputs by name.

        Args:
            seed: Of the values; odd seeds give floats in [0, 1), even ones normal ones.
            rows: Size of the first dim; None: as in `dims`.
            zeros: Zeros, empty strings and false instead.
        """
        rng = np.random.default_rng(seed)
        made = {}
        for tensor in self.tensors:
            shape = self.shape(tensor, rows)
            if zeros and tensor.data_type != "STRING":
                made[tensor.name] = np.zeros(shape, numpy_type(tensor.data_type))
            else:
                made[tensor.name] = self._values(tensor, shape, rng, seed, zeros=zeros)
        return made

    def _values(
        self,
        tensor: GraphTensor,
        shape: tuple[int, ...],
        rng: np.random.Generator,
        seed: int,
        *,
        zeros: bool,
    ) -> NDArray[Any]:
        kind: Any = np.dtype(numpy_type(tensor.data_type))
        if tensor.data_type == "STRING":
            words = [""] if zeros else list(_WORDS)
            chosen = rng.integers(0, len(words), math.prod(shape))
            return np.array([words[index] for index in chosen], dtype=object).reshape(shape)
        if kind == np.bool_:
            return np.asarray(rng.integers(0, 2, shape)).astype(bool)
        if kind.kind == "f":
            values = rng.random(shape) if seed % 2 else rng.standard_normal(shape)
            return np.asarray(values).astype(kind)
        bounds = np.iinfo(kind)
        low, high = self.ranges.get(tensor.name, (int(bounds.min), int(bounds.max)))
        low, high = max(low, int(bounds.min)), min(high, int(bounds.max))
        return np.asarray(rng.integers(low, high, shape, dtype=kind, endpoint=True))


def find_example(
    session: ort.InferenceSession,
    tensors: Sequence[GraphTensor],
    dims: Dims,
    ranges: Mapping[str, Range],
    source: str,
) -> Example:
    """Sizes and ranges that a graph runs with.

    Args:
        session: The graph.
        tensors: The inputs to feed.
        dims: Sizes that are known.
        ranges: Ranges that are known.
        source: The file, for messages.

    Raises:
        CheckpointError: none of the sizes that were tried runs; with what ONNX Runtime said last.
    """
    outputs = [value.name for value in session.get_outputs()]
    last, deadline = "nothing was tried", time.monotonic() + _SECONDS
    for sizes in _candidates(tensors, dims):
        for integers in _DEFAULT_RANGES:
            filled = _filled(tensors, sizes, ranges, integers)
            example = Example(tuple(tensors), dict(sizes), filled)
            if sum(math.prod(example.shape(t)) for t in tensors) > _MOST_ELEMENTS and len(dims) < 1:
                break
            try:
                for seed in (1, 2):
                    session.run(outputs, example.make(seed))
            except Exception as error:  # onnxruntime has no base of its own
                last = said(error)
            else:
                return example
            if time.monotonic() > deadline:
                break
            if all(t.name in ranges or not _is_open(t) for t in tensors):
                break  # other default ranges change nothing
        if time.monotonic() > deadline:
            break
    raise CheckpointError(
        f"{source}: does not run on generated inputs; state sizes of its free dims under verify: "
        f"dims: in the spec, and values of its integer inputs under verify: ranges: ({last})"
    )


def _is_open(tensor: GraphTensor) -> bool:
    """Whether nothing but a guess bounds its values."""
    return tensor.data_type.endswith(("INT16", "INT32", "INT64"))


def _filled(
    tensors: Iterable[GraphTensor], sizes: Dims, ranges: Mapping[str, Range], integers: Range
) -> dict[str, Range]:
    """A range for every integer input wider than a byte."""
    filled = dict(ranges)
    for tensor in tensors:
        if tensor.name in filled or not _is_open(tensor):
            continue
        is_length = "len" in tensor.name.lower() and len(tensor.dims) <= 1
        shortest = min((size for name, size in sizes.items() if name not in tensor.dims), default=1)
        filled[tensor.name] = (1, shortest) if is_length else integers
    return filled


def _candidates(tensors: Sequence[GraphTensor], known: Dims) -> Iterator[dict[str, int]]:
    """Sizes of the free dims, the likeliest first: two rows and a width, one row, anything."""
    keys = list(dict.fromkeys(d for t in tensors for d in t.dims if isinstance(d, str)))
    free = [key for key in keys if key not in known]
    first = {tensor.dims[0] for tensor in tensors if tensor.dims}
    if not free:
        yield dict(known)
        return
    for rows in (2, 1):
        for size in _SIZES:
            yield {**known, **{key: rows if key in first else size for key in free}}
    for size in _SIZES:
        yield {**known, **dict.fromkeys(free, size)}
    if len(free) <= 4:
        for sizes in itertools.product(_SINGLE, repeat=len(free)):
            yield {**known, **dict(zip(free, sizes, strict=True))}

"""A user's warmup requests: checked against the model's inputs, their samples as files."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from builder.errors import SpecError
from builder.render.model_config import Tensor, Warmup
from builder.render.model_files import Source, element_bytes, safe_name
from builder.spec.triton import ModelWarmup, WarmupInput

_FOLDER = "warmup"


def warmups(
    samples: Sequence[ModelWarmup],
    inputs: Iterable[Tensor],
    optional: frozenset[str],
    where: str,
    base: Path,
) -> tuple[tuple[Warmup, ...], dict[str, bytes]]:
    """The warmup requests of a config, and the files that they read.

    Args:
        samples: What the spec says.
        inputs: Inputs of the model; those that Triton makes (controls, states) are among them
            where a sample has them.
        optional: Names of inputs that a sample may leave out.
        where: Name of the model, for errors.
        base: Folder that paths are relative to.

    Raises:
        SpecError: a sample does not fit the inputs, or a file can't be read.
    """
    known = {tensor.name: tensor for tensor in inputs}
    files: dict[str, bytes] = {}
    made = []
    for place, sample in enumerate(samples):
        key = f"{where}: model_warmup '{sample.name}'"
        unknown = sorted(set(sample.inputs) - set(known))
        if unknown:
            raise SpecError(
                f"{key}: the model has no input '{unknown[0]}'; it has {', '.join(known)}"
            )
        missing = [name for name in known if name not in sample.inputs and name not in optional]
        if missing:
            raise SpecError(f"{key}: the input '{missing[0]}' is missing")
        made.append(_warmup(place, sample, known, Source(key, base), files))
    return tuple(made), files


def _warmup(
    place: int,
    sample: ModelWarmup,
    known: Mapping[str, Tensor],
    source: Source,
    files: dict[str, bytes],
) -> Warmup:
    tensors, named = [], {}
    for number, (name, value) in enumerate(sample.inputs.items()):
        data, dims = _data(value, known[name], source)
        tensors.append(replace(known[name], dims=_dims(value, dims, known[name], source)))
        if data is not None:
            _check_size(data, tensors[-1], source)
            named[name] = safe_name(place, number, sample.name, name)
            files[f"{_FOLDER}/{named[name]}"] = data
    random = frozenset(name for name, value in sample.inputs.items() if value.random_data)
    return Warmup(sample.name, sample.batch_size, tuple(tensors), random, named, count=sample.count)


def _data(
    value: WarmupInput, tensor: Tensor, source: Source
) -> tuple[bytes | None, tuple[int, ...] | None]:
    if value.values is not None:
        return source.values(value.values, tensor.data_type)
    if value.input_data_file is not None:
        return source.tensor(value.input_data_file, tensor.data_type)
    return None, None


def _dims(
    value: WarmupInput, found: tuple[int, ...] | None, tensor: Tensor, source: Source
) -> tuple[int, ...]:
    if value.dims is not None and found is not None and math.prod(value.dims) != math.prod(found):
        raise source.fail(f"input '{tensor.name}' has {list(found)} values, not {value.dims}")
    dims = tuple(value.dims or found or tensor.dims)
    if -1 in dims:
        raise source.fail(f"input '{tensor.name}' has free dims {list(dims)}; add dims")
    fits = len(dims) == len(tensor.dims) and all(
        theirs in (-1, ours) for ours, theirs in zip(dims, tensor.dims, strict=True)
    )
    if not fits:
        raise source.fail(
            f"input '{tensor.name}' has the dims {list(tensor.dims)}, the sample {list(dims)} "
            "(without the batch dim)"
        )
    return dims


def _check_size(data: bytes, tensor: Tensor, source: Source) -> None:
    count, size = math.prod(tensor.dims), element_bytes(tensor.data_type)
    if size is not None and len(data) != count * size:
        raise source.fail(
            f"input '{tensor.name}' has {len(data)} bytes of data; {list(tensor.dims)} of "
            f"{tensor.data_type} has {count * size}"
        )
    if size is None and _strings(data) != count:
        raise source.fail(
            f"input '{tensor.name}' needs {count} strings in its file, each after its length "
            "(4 bytes, little-endian)"
        )


def _strings(data: bytes) -> int | None:
    """How many strings there are; None where one is cut off."""
    position = count = 0
    while position < len(data):
        position += 4 + int.from_bytes(data[position : position + 4], "little")
        count += 1
    return count if position == len(data) else None

"""Warmup requests, which Triton builds and runs at load."""

from collections.abc import Iterator
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb

from builder.validate import data_types, shapes
from builder.validate.findings import Problem
from builder.validate.model import Model, type_name
from builder.validate.registry import rule
from builder.validate.repository import UnreadableError

_SECTION = "warmup"
_DATA_LIMIT = 64 << 20
"""Bytes of the largest file of strings that is read."""


def samples(model: Model) -> Iterator[tuple[str, pb.ModelWarmup]]:
    """The samples that Triton builds: none of batch size 0, none for passive instances."""
    groups = model.config.instance_group
    if model.is_ensemble or (groups and all(group.passive for group in groups)):
        return
    for index, sample in enumerate(model.config.model_warmup):
        if sample.batch_size:
            yield f"model_warmup[{index}]", sample


def _inputs(model: Model) -> Iterator[tuple[str, str, "pb.ModelWarmup.Input"]]:
    for path, sample in samples(model):
        for name, value in sorted(sample.inputs.items()):
            yield f'{path}.inputs["{name}"]', name, value


@rule(
    "warmup.ensemble",
    section=_SECTION,
    reason="an ensemble has no instance to warm up; its steps have",
    source="config",
)
def ensembles_have_no_warmup(model: Model) -> Iterator[Problem]:
    """No `model_warmup` in an ensemble."""
    if model.is_ensemble and model.config.model_warmup:
        yield Problem(
            "model_warmup",
            "an ensemble cannot have model_warmup",
            "move it to the models of the steps",
        )


@rule(
    "warmup.free-dim",
    section=_SECTION,
    reason="Triton makes a tensor of the sample, so every dim needs a size",
    source="instance",
)
def warmup_dims_are_fixed(model: Model) -> Iterator[Problem]:
    """No dim of a sample's input is -1 or less."""
    for path, name, value in _inputs(model):
        if min(value.dims, default=0) < 0:
            yield Problem(
                f"{path}.dims",
                f"the warmup input {name!r} has a dim without a size: {shapes.words(value.dims)}",
                "write a size for every dim",
            )


@rule(
    "warmup.data",
    section=_SECTION,
    reason="Triton must know what to fill the tensor with",
    source="instance",
)
def warmup_inputs_have_data(model: Model) -> Iterator[Problem]:
    """Every input is zeros, random, or a file in `warmup/` with enough bytes."""
    for path, name, value in _inputs(model):
        choice = value.WhichOneof("input_data_type")
        if choice is None:
            yield Problem(
                path,
                f"the warmup input {name!r} has no data",
                "write zero_data: true, random_data: true or input_data_file: ...",
            )
        elif choice == "input_data_file":
            yield from _data_file(model, path, name, value)


def _data_file(
    model: Model, path: str, name: str, value: "pb.ModelWarmup.Input"
) -> Iterator[Problem]:
    file = model.path / "warmup" / value.input_data_file.lstrip("/")
    try:
        model.repository.check_regular(file)
    except UnreadableError as error:
        yield Problem(
            f"{path}.input_data_file",
            f"warmup/{value.input_data_file} cannot be read: {error}",
            f"put the file into {model.name}/warmup/",
        )
        return
    count = shapes.element_count(value.dims)
    if value.data_type == pb.TYPE_STRING:
        if name not in {model_input.name for model_input in model.config.input}:
            return  # the strings of a control are not looked at
        found = _string_count(model, file)
        if found != count:
            yield Problem(
                f"{path}.input_data_file",
                f"warmup/{value.input_data_file} holds "
                f"{'no list of strings' if found is None else f'{found} strings'}, "
                f"the tensor has {count}",
                "write each string with its length in front, as 4 bytes, little-endian",
            )
        return
    size = max(0, count) * (data_types.byte_size(value.data_type) or 4)
    if file.stat().st_size < size:
        yield Problem(
            f"{path}.input_data_file",
            f"warmup/{value.input_data_file} has {file.stat().st_size} bytes, "
            f"the tensor needs {size}",
            "write the whole tensor into the file",
        )


def _string_count(model: Model, file: Path) -> int | None:
    """How many strings a file holds, each after its length; None where one is cut off."""
    data = model.repository.read(file, _DATA_LIMIT)
    position = count = 0
    while position < len(data):
        position += 4 + int.from_bytes(data[position : position + 4], "little")
        count += 1
    return count if position == len(data) else None


@rule(
    "warmup.inputs",
    section=_SECTION,
    reason="a warmup request is checked as any request; Triton counts its inputs",
    source="request",
)
def warmup_inputs_are_enough(model: Model) -> Iterator[Problem]:
    """A sample has at least as many inputs of the model as are not optional."""
    for path, sample, missing, enough in _missing_inputs(model):
        if not enough:
            yield Problem(
                f"{path}.inputs",
                f"the warmup sample {sample.name!r} lacks the inputs {', '.join(missing)}",
                "add them, or make the inputs optional",
            )


@rule(
    "warmup.required-inputs",
    section=_SECTION,
    reason="Triton counts the inputs of a request and does not see which of them are missing",
    source="request",
    severity="advice",
)
def warmup_inputs_are_complete(model: Model) -> Iterator[Problem]:
    """A sample has every input of the model that is not optional."""
    for path, sample, missing, enough in _missing_inputs(model):
        if enough and missing:
            yield Problem(
                f"{path}.inputs",
                f"the warmup sample {sample.name!r} lacks the inputs {', '.join(missing)}, and "
                "Triton takes an optional input for them",
                "add them",
            )


def _missing_inputs(model: Model) -> Iterator[tuple[str, pb.ModelWarmup, list[str], bool]]:
    """Path, sample, required inputs that it lacks, and whether Triton counts enough of them."""
    if model.open_ended:
        return
    names = {model_input.name for model_input in model.config.input}
    required = [io.name for io in model.config.input if not io.optional]
    for path, sample in samples(model):
        missing = [name for name in required if name not in sample.inputs]
        yield path, sample, missing, len(names & set(sample.inputs)) >= len(required)


@rule(
    "warmup.shape",
    section=_SECTION,
    reason="a warmup request is checked as any request",
    source="request",
)
def warmup_inputs_fit(model: Model) -> Iterator[Problem]:
    """A sample's inputs have the data type and the dims of the model's, without the batch dim."""
    inputs = {model_input.name: model_input for model_input in model.config.input}
    for path, name, value in _inputs(model):
        model_input = inputs.get(name)
        if model_input is None:
            continue
        if value.data_type != model_input.data_type:
            yield Problem(
                f"{path}.data_type",
                f"the warmup input {name!r} is {type_name(value.data_type)}, "
                f"the model's {type_name(model_input.data_type)}",
                "use the model's data type",
            )
        if not shapes.compatible(list(value.dims), list(model_input.dims)):
            yield Problem(
                f"{path}.dims",
                f"the warmup input {name!r} has dims {shapes.words(value.dims)}, "
                f"the model's {shapes.words(model_input.dims)}",
                "use the model's dims, with a number for every -1 and without the batch dim",
            )

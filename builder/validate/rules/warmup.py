"""Warmup requests, which Triton builds and runs at load."""

from collections.abc import Iterator

from tritonclient.grpc import model_config_pb2 as pb

from builder.validate import data_types, shapes
from builder.validate.findings import Problem
from builder.validate.model import Model, type_name
from builder.validate.registry import rule
from builder.validate.repository import UnreadableError

_SECTION = "warmup"


def _samples(model: Model) -> Iterator[tuple[str, pb.ModelWarmup]]:
    """The samples that Triton builds: none of batch size 0, none for passive instances."""
    groups = model.config.instance_group
    if model.is_ensemble or (groups and all(group.passive for group in groups)):
        return
    for index, sample in enumerate(model.config.model_warmup):
        if sample.batch_size:
            yield f"model_warmup[{index}]", sample


def _inputs(model: Model) -> Iterator[tuple[str, str, "pb.ModelWarmup.Input"]]:
    for path, sample in _samples(model):
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
    """No dim of a sample's input is -1."""
    for path, name, value in _inputs(model):
        if shapes.WILDCARD in value.dims:
            yield Problem(
                f"{path}.dims",
                f"the warmup input {name!r} has a dim of any size: {shapes.words(value.dims)}",
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
            yield from _data_file(model, path, value)


def _data_file(model: Model, path: str, value: "pb.ModelWarmup.Input") -> Iterator[Problem]:
    file = model.path / "warmup" / value.input_data_file
    try:
        model.repository.check_regular(file)
    except UnreadableError as error:
        yield Problem(
            f"{path}.input_data_file",
            f"warmup/{value.input_data_file} cannot be read: {error}",
            f"put the file into {model.name}/warmup/",
        )
        return
    if value.data_type == pb.TYPE_STRING:
        return
    count = shapes.element_count(value.dims)
    size = max(0, count) * (data_types.byte_size(value.data_type) or 4)
    if file.stat().st_size < size:
        yield Problem(
            f"{path}.input_data_file",
            f"warmup/{value.input_data_file} has {file.stat().st_size} bytes, "
            f"the tensor needs {size}",
            "write the whole tensor into the file",
        )


@rule(
    "warmup.inputs",
    section=_SECTION,
    reason="a warmup request is checked as any request",
    source="request",
)
def warmup_inputs_are_complete(model: Model) -> Iterator[Problem]:
    """A sample has every input of the model that is not optional."""
    if model.open_ended:
        return
    for path, sample in _samples(model):
        for model_input in model.config.input:
            if not model_input.optional and model_input.name not in sample.inputs:
                yield Problem(
                    f"{path}.inputs",
                    f"the warmup sample {sample.name!r} lacks the input {model_input.name!r}",
                    "add it, or make the input optional",
                )


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

"""An ensemble against the models of its steps, as Triton compares them once these are loaded.

Mirrors `ValidateEnsembleConfig` of
https://github.com/triton-inference-server/core/blob/r24.10/src/ensemble_scheduler/ensemble_utils.cc
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from tritonclient.grpc import model_config_pb2 as pb

from builder.validate import shapes
from builder.validate.findings import Problem
from builder.validate.model import Model, type_name

SELF = "the ensemble"


@dataclass(slots=True)
class Sibling:
    """What the outputs of one step share: they come in the same responses."""

    label: int = 0
    visited: bool = False


@dataclass(slots=True)
class Tensor:
    """A tensor of the ensemble with the type and dims of where it was first met."""

    owner: str
    data_type: int = pb.TYPE_INVALID
    dims: tuple[int, ...] = ()
    batching: bool = False
    decoupled: bool = False
    label: int = 0
    visited: bool = False
    sibling: Sibling | None = None
    before: list["Tensor"] = field(default_factory=list)
    after: list["Tensor"] = field(default_factory=list)

    @property
    def full_dims(self) -> tuple[int, ...]:
        """Dims with the batch dim."""
        return (-1, *self.dims) if self.batching else self.dims


def own_tensors(model: Model) -> dict[str, Tensor]:
    """The ensemble's inputs and outputs by name."""
    tensors: dict[str, Tensor] = {}
    batching = model.config.max_batch_size > 0
    for io in (*model.config.input, *model.config.output):
        dims = io.reshape.shape if io.HasField("reshape") else io.dims
        tensors.setdefault(io.name, Tensor(SELF, io.data_type, tuple(dims), batching))
    return tensors


def map_step(
    model: Model, index: int, step: "pb.ModelEnsembling.Step", tensors: dict[str, Tensor]
) -> Iterator[Problem]:
    """Compare one step's maps with its model's inputs and outputs, and link the tensors."""
    path = f"ensemble_scheduling.step[{index}]"
    of = model.siblings[step.model_name]
    inputs = {io.name: io for io in of.config.input}
    outputs = {io.name: io for io in of.config.output}
    sibling = Sibling()
    for direction, mapped, known in (
        ("input", step.input_map, inputs),
        ("output", step.output_map, outputs),
    ):
        for key, name in sorted(mapped.items()):
            field_path = f'{path}.{direction}_map["{key}"]'
            io = known.get(key)
            if io is None:
                if not of.open_ended:
                    yield Problem(
                        field_path,
                        f"the model {step.model_name!r} has no {direction} {key!r}",
                        f"use one of {', '.join(sorted(known)) or 'its ' + direction + 's'}",
                    )
                tensors.setdefault(name, Tensor(step.model_name))
                continue
            tensor = Tensor(
                f"model {step.model_name!r}",
                io.data_type,
                tuple(io.dims),
                of.config.max_batch_size > 0,
            )
            yield from _compare(field_path, name, tensors.setdefault(name, tensor), tensor)
            if direction == "output":
                tensors[name].sibling = sibling
    for name, io in inputs.items():
        if name not in step.input_map and not io.optional:
            yield Problem(
                f"{path}.input_map",
                f"the input {name!r} of the model {step.model_name!r} is not mapped",
                "map it to a tensor of the ensemble",
            )
    for name in sorted(step.output_map.values()):
        tensors[name].decoupled = of.decoupled
        for used in sorted(step.input_map.values()):
            tensors[name].before.append(tensors[used])
            tensors[used].after.append(tensors[name])


def _compare(field_path: str, name: str, first: Tensor, second: Tensor) -> Iterator[Problem]:
    if pb.TYPE_INVALID in (first.data_type, second.data_type):
        return
    if first.data_type != second.data_type:
        yield Problem(
            field_path,
            f"the tensor {name!r} is {type_name(first.data_type)} for {first.owner} and "
            f"{type_name(second.data_type)} for {second.owner}",
            "make the data types equal",
        )
    elif not shapes.compatible(first.dims, second.dims) and not shapes.compatible(
        first.full_dims, second.full_dims
    ):
        yield Problem(
            field_path,
            f"the tensor {name!r} has the shape {shapes.words(first.full_dims)} for {first.owner} "
            f"and {shapes.words(second.full_dims)} for {second.owner}",
            "make the shapes equal, the batch dim (-1 in front) among them",
        )


def follow_streams(model: Model, tensors: dict[str, Tensor]) -> tuple[bool, str]:
    """Number the streams of decoupled steps.

    Returns whether the ensemble is decoupled, and the owner of a tensor that would join two
    streams, "" where there is none.
    """
    sink = Tensor("an output of the ensemble")
    for output in model.config.output:
        sink.before.append(tensors[output.name])
        tensors[output.name].after.append(sink)
    label = 0
    waiting = deque[Tensor]()
    for model_input in model.config.input:
        tensors[model_input.name].visited = True
        waiting.append(tensors[model_input.name])
    while waiting:
        for tensor in waiting.popleft().after:
            if tensor.visited or not all(used.visited for used in tensor.before):
                continue
            stream = tensor.before[0].label
            if any(used.label != stream for used in tensor.before):
                return label > 0, tensor.owner
            if tensor.sibling is not None and tensor.sibling.visited:
                tensor.label = tensor.sibling.label
            else:
                label += tensor.decoupled
                tensor.label = label if tensor.decoupled else stream
                if tensor.sibling is not None:
                    tensor.sibling.label = tensor.label
                    tensor.sibling.visited = True
            tensor.visited = True
            waiting.append(tensor)
    return label > 0, ""

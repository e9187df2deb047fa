"""The data flow of an ensemble, from its own config."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import rule

_SECTION = "ensemble graph"


@dataclass(slots=True)
class _Tensor:
    """A tensor of the ensemble: who makes it, and what is made of it."""

    name: str
    made: bool = False
    ready: bool = False
    before: list["_Tensor"] = field(default_factory=list)
    after: list["_Tensor"] = field(default_factory=list)
    path: str = ""


def _flow(model: Model) -> dict[str, _Tensor]:
    """The tensors by name, `ready` if they are reached from the ensemble's inputs."""
    tensors: dict[str, _Tensor] = {}
    for index, step in enumerate(model.config.ensemble_scheduling.step):
        path = f"ensemble_scheduling.step[{index}]"
        made = []
        for key, name in sorted(step.output_map.items()):
            tensor = tensors.setdefault(name, _Tensor(name, path=f'{path}.output_map["{key}"]'))
            tensor.made = True
            made.append(tensor)
        for key, name in sorted(step.input_map.items()):
            used = tensors.setdefault(name, _Tensor(name, path=f'{path}.input_map["{key}"]'))
            for tensor in made:
                tensor.before.append(used)
                used.after.append(tensor)
    ready = deque[_Tensor]()
    for model_input in model.config.input:
        tensor = tensors.get(model_input.name, _Tensor(""))
        tensor.ready = True
        ready.append(tensor)
    while ready:
        for tensor in ready.popleft().after:
            if not tensor.ready and all(used.ready for used in tensor.before):
                tensor.ready = True
                ready.append(tensor)
    return tensors


@rule(
    "ensemble.steps",
    section=_SECTION,
    reason="a step is a model with tensors going in and coming out",
    source="config",
)
def steps_are_complete(model: Model) -> Iterator[Problem]:
    """There are steps, each with `model_name`, `input_map` and `output_map`."""
    if not model.is_ensemble:
        return
    if not model.config.ensemble_scheduling.step:
        yield Problem("ensemble_scheduling", "the ensemble has no step", "add step [ { ... } ]")
    for index, step in enumerate(model.config.ensemble_scheduling.step):
        for name in ("model_name", "input_map", "output_map"):
            if not getattr(step, name):
                yield Problem(
                    f"ensemble_scheduling.step[{index}].{name}",
                    f"step {index} has no {name}",
                    f"add {name}",
                )


@rule(
    "ensemble.written-twice",
    section=_SECTION,
    reason="a tensor comes from one place",
    source="config",
)
def tensors_are_written_once(model: Model) -> Iterator[Problem]:
    """No two outputs of steps have the name of the same ensemble tensor."""
    seen: dict[str, int] = {}
    for index, step in enumerate(model.config.ensemble_scheduling.step):
        for key, name in sorted(step.output_map.items()):
            if name in seen:
                yield Problem(
                    f'ensemble_scheduling.step[{index}].output_map["{key}"]',
                    f"step {seen[name]} and step {index} both write the tensor {name!r}",
                    "give one of them another name",
                )
            seen.setdefault(name, index)


@rule(
    "ensemble.input-unused",
    section=_SECTION,
    reason="an input that no step reads is a mistake in a map",
    source="config",
)
def inputs_are_used(model: Model) -> Iterator[Problem]:
    """Every input of the ensemble appears in a step's map."""
    if not model.is_ensemble:
        return
    tensors = _flow(model)
    for index, model_input in enumerate(model.config.input):
        if model_input.name not in tensors:
            yield Problem(
                f"input[{index}].name",
                f"no step uses the ensemble's input {model_input.name!r}",
                "map it in a step's input_map, or remove it",
            )


@rule(
    "ensemble.output-unwritten",
    section=_SECTION,
    reason="an output must be reached from the inputs",
    source="config",
)
def outputs_are_written(model: Model) -> Iterator[Problem]:
    """Every output of the ensemble is made from its inputs."""
    if not model.is_ensemble:
        return
    tensors = _flow(model)
    for index, output in enumerate(model.config.output):
        tensor = tensors.get(output.name)
        if tensor is None:
            yield Problem(
                f"output[{index}].name",
                f"no step uses or writes the ensemble's output {output.name!r}",
                "map it in a step's output_map",
            )
        elif not tensor.ready:
            source = _unready_source(tensor)
            because = f", because {source.name!r} is not" if source is not tensor else ""
            yield Problem(
                f"output[{index}].name",
                f"the output {output.name!r} is not reached from the ensemble's inputs{because}",
                f"make {source.name!r} an input of the ensemble or an output of a step, and break "
                "circles",
            )


def _unready_source(tensor: _Tensor) -> _Tensor:
    """The first tensor on the way back that nothing reaches; circles are cut."""
    seen = {tensor.name}
    while True:
        before = [used for used in tensor.before if not used.ready and used.name not in seen]
        if not before:
            return tensor
        tensor = before[0]
        seen.add(tensor.name)


@rule(
    "ensemble.tensor-unused",
    section=_SECTION,
    reason="a tensor that leads to nothing, or comes from nothing, is a mistake in a map",
    source="config",
)
def inner_tensors_are_used(model: Model) -> Iterator[Problem]:
    """Every tensor between the steps is reached and read, or is an output of the ensemble."""
    if not model.is_ensemble:
        return
    outputs = {output.name for output in model.config.output}
    for name, tensor in sorted(_flow(model).items()):
        if name in outputs:
            continue
        if not tensor.ready:
            source = _unready_source(tensor)
            yield Problem(
                tensor.path,
                f"the tensor {name!r} is not reached from the ensemble's inputs",
                f"make {source.name!r} an input of the ensemble or an output of a step, and break "
                "circles",
            )
        elif not tensor.after:
            yield Problem(
                tensor.path,
                f"the tensor {name!r} is written and never read",
                "remove it from the map, read it in a step, or make it an output of the ensemble",
            )

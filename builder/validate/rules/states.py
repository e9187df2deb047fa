"""Implicit states of sequence batching.

Triton 24.10 seldom survives a mistake in an initial state: the half-made scheduler takes the
whole server down with it.
"""

from collections.abc import Iterator

from tritonclient.grpc import model_config_pb2 as pb

from builder.validate import data_types, shapes
from builder.validate.findings import Problem
from builder.validate.model import Model, type_name
from builder.validate.registry import rule
from builder.validate.repository import UnreadableError

_SECTION = "sequence states"


def _states(model: Model) -> Iterator[tuple[str, "pb.ModelSequenceBatching.State"]]:
    for index, state in enumerate(model.config.sequence_batching.state):
        yield f"sequence_batching.state[{index}]", state


def _initial_states(
    model: Model,
) -> Iterator[
    tuple[str, "pb.ModelSequenceBatching.State", "pb.ModelSequenceBatching.InitialState"]
]:
    for path, state in _states(model):
        if len(state.initial_state) == 1:
            yield f"{path}.initial_state[0]", state, state.initial_state[0]


@rule(
    "state.dims",
    section=_SECTION,
    reason="Triton makes a buffer of the state; of a negative size the server may die",
    source="sequence",
)
def state_dims_are_sizes(model: Model) -> Iterator[Problem]:
    """No dim of a state is below -1."""
    for path, state in _states(model):
        if min(state.dims, default=0) < shapes.WILDCARD:
            yield Problem(
                f"{path}.dims",
                f"the state {state.input_name!r} has dims {shapes.words(state.dims)}",
                "use -1 for any size, else a size of at least 1",
            )


@rule(
    "state.one-initial",
    section=_SECTION,
    reason="a sequence starts with one value of a state; else the server may die",
    source="sequence",
)
def one_initial_state(model: Model) -> Iterator[Problem]:
    """A state has at most one `initial_state`."""
    for path, state in _states(model):
        if len(state.initial_state) > 1:
            yield Problem(
                f"{path}.initial_state",
                f"the state {state.input_name!r} has {len(state.initial_state)} initial states",
                "keep one of them",
            )


@rule(
    "state.input-once",
    section=_SECTION,
    reason="the initial value of an input is given once; else the server may die",
    source="sequence",
)
def state_inputs_are_given_once(model: Model) -> Iterator[Problem]:
    """No two states with an initial value have the same `input_name`."""
    seen: set[str] = set()
    for path, state, _ in _initial_states(model):
        if state.input_name in seen:
            yield Problem(
                path.rpartition(".")[0] + ".input_name",
                f"the state input {state.input_name!r} has two initial values",
                "keep one of them",
            )
        seen.add(state.input_name)


@rule(
    "state.initial-name",
    section=_SECTION,
    reason="Triton asks for a name of the initial value; else the server may die",
    source="sequence",
)
def initial_states_have_names(model: Model) -> Iterator[Problem]:
    """An `initial_state` has a name."""
    for path, state, initial in _initial_states(model):
        if not initial.name:
            yield Problem(
                f"{path}.name",
                f"the initial state of {state.input_name!r} has no name",
                'add name: "..."',
            )


@rule(
    "state.initial-type",
    section=_SECTION,
    reason="the initial value is a value of the state; else the server may die",
    source="sequence",
)
def initial_states_have_the_type(model: Model) -> Iterator[Problem]:
    """An `initial_state` has the state's data type."""
    for path, state, initial in _initial_states(model):
        if initial.data_type != state.data_type:
            yield Problem(
                f"{path}.data_type",
                f"the initial state of {state.input_name!r} is {type_name(initial.data_type)}, "
                f"the state {type_name(state.data_type)}",
                "use the state's data type",
            )


@rule(
    "state.initial-dims",
    section=_SECTION,
    reason="the initial value is a value of the state, and has a size; else the server may die",
    source="sequence",
)
def initial_states_have_the_dims(model: Model) -> Iterator[Problem]:
    """An `initial_state` has fixed dims that the state's dims allow."""
    for path, state, initial in _initial_states(model):
        free = shapes.WILDCARD in initial.dims
        if free or not shapes.compatible(list(initial.dims), list(state.dims)):
            yield Problem(
                f"{path}.dims",
                f"the initial state of {state.input_name!r} has dims {shapes.words(initial.dims)}, "
                f"the state {shapes.words(state.dims)}",
                "use the state's dims, with a number for every -1",
            )


@rule(
    "state.initial-data",
    section=_SECTION,
    reason="Triton must know what to start with; else the server may die",
    source="sequence",
)
def initial_states_have_data(model: Model) -> Iterator[Problem]:
    """An `initial_state` is zeros or a file in `initial_state/` with enough bytes."""
    for path, state, initial in _initial_states(model):
        choice = initial.WhichOneof("state_data")
        if choice is None:
            yield Problem(
                path,
                f"the initial state of {state.input_name!r} has no data",
                "write zero_data: true or data_file: ...",
            )
        elif choice == "data_file":
            yield from _data_file(model, path, initial)


def _data_file(
    model: Model, path: str, initial: "pb.ModelSequenceBatching.InitialState"
) -> Iterator[Problem]:
    file = model.path / "initial_state" / initial.data_file.lstrip("/")
    try:
        model.repository.check_regular(file)
    except UnreadableError as error:
        yield Problem(
            f"{path}.data_file",
            f"initial_state/{initial.data_file} cannot be read: {error}",
            f"put the file into {model.name}/initial_state/",
        )
        return
    size = data_types.byte_size(initial.data_type) * max(0, shapes.element_count(initial.dims))
    if file.stat().st_size < size and initial.data_type != pb.TYPE_STRING:
        yield Problem(
            f"{path}.data_file",
            f"initial_state/{initial.data_file} has {file.stat().st_size} bytes, "
            f"the state needs {size}",
            "write the whole tensor into the file",
        )


@rule(
    "state.growable",
    section=_SECTION,
    reason="growable memory is one buffer for input and output, on a GPU; Triton loads the model "
    "and fails its first sequence",
    source="sequence",
    severity="advice",
)
def growable_states_are_on_gpus(model: Model) -> Iterator[Problem]:
    """`use_growable_memory` needs `use_same_buffer_for_input_output` and `KIND_GPU`."""
    on_gpu = all(
        group.kind in (pb.ModelInstanceGroup.KIND_GPU, pb.ModelInstanceGroup.KIND_AUTO)
        for group in model.config.instance_group
    )
    for path, state in _states(model):
        if state.use_growable_memory and not (state.use_same_buffer_for_input_output and on_gpu):
            yield Problem(
                f"{path}.use_growable_memory",
                f"the state {state.input_name!r} grows, which needs "
                "use_same_buffer_for_input_output and instances of KIND_GPU",
                "set both, or remove use_growable_memory",
            )

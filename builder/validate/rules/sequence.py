"""Sequence batching: strategies and controls."""

from collections.abc import Iterator

from tritonclient.grpc import model_config_pb2 as pb

from builder.validate.findings import Problem
from builder.validate.model import Model, type_name
from builder.validate.registry import rule

_SECTION = "sequence batching controls and strategies"
_Control = pb.ModelSequenceBatching.Control
_VALUES = ("int32_false_true", "fp32_false_true", "bool_false_true")
_BOOLEAN_KINDS = (
    _Control.CONTROL_SEQUENCE_START,
    _Control.CONTROL_SEQUENCE_END,
    _Control.CONTROL_SEQUENCE_READY,
)
_CORRELATION_TYPES = (
    pb.TYPE_UINT64,
    pb.TYPE_INT64,
    pb.TYPE_UINT32,
    pb.TYPE_INT32,
    pb.TYPE_STRING,
)


def _controls(model: Model) -> Iterator[tuple[str, "pb.ModelSequenceBatching.Control"]]:
    for index, control_input in enumerate(model.config.sequence_batching.control_input):
        for number, control in enumerate(control_input.control):
            yield f"sequence_batching.control_input[{index}].control[{number}]", control


@rule(
    "sequence.control-name",
    section=_SECTION,
    reason="a control is given to the model as a tensor, and a tensor holds one control",
    source="config",
)
def control_inputs_have_names(model: Model) -> Iterator[Problem]:
    """Every control input has a name of its own."""
    seen: set[str] = set()
    for index, control_input in enumerate(model.config.sequence_batching.control_input):
        path = f"sequence_batching.control_input[{index}].name"
        if not control_input.name:
            yield Problem(path, f"control_input[{index}] has no name", 'add name: "..."')
        elif control_input.name in seen:
            yield Problem(
                path,
                f"two control inputs are called {control_input.name!r}",
                "give each control a tensor of its own",
            )
        seen.add(control_input.name)


@rule(
    "sequence.control-kind",
    section=_SECTION,
    reason="a control is given once",
    source="config",
)
def control_kinds_are_given_once(model: Model) -> Iterator[Problem]:
    """No kind of control appears twice."""
    seen: set[int] = set()
    for path, control in _controls(model):
        if control.kind in seen and control.kind in _Control.Kind.values():
            yield Problem(
                f"{path}.kind",
                f"{_Control.Kind.Name(control.kind)} is given twice",
                "keep one of them",
            )
        seen.add(control.kind)


@rule(
    "sequence.control-value",
    section=_SECTION,
    reason="Triton writes the false or the true value into the tensor, so it must know both",
    source="config",
)
def boolean_controls_have_two_values(model: Model) -> Iterator[Problem]:
    """START, END and READY have exactly one of the `*_false_true` pairs."""
    for path, control in _controls(model):
        if control.kind not in _BOOLEAN_KINDS:
            continue
        given = [name for name in _VALUES if getattr(control, name)]
        kind = _Control.Kind.Name(control.kind)
        if len(given) != 1:
            yield Problem(
                path,
                f"{kind} has {len(given)} of {', '.join(_VALUES)}, not one",
                "write fp32_false_true: [ 0, 1 ] or the like",
            )
        elif len(getattr(control, given[0])) != 2:
            yield Problem(
                f"{path}.{given[0]}",
                f"{given[0]} of {kind} has {len(getattr(control, given[0]))} values, not 2",
                "write the value for false, then the one for true",
            )


@rule(
    "sequence.correlation-id",
    section=_SECTION,
    reason="a correlation id is an integer or a string, and has no false and true",
    source="config",
)
def correlation_id_has_a_type(model: Model) -> Iterator[Problem]:
    """CORRID has an integer or string type and no `*_false_true`."""
    for path, control in _controls(model):
        if control.kind != _Control.CONTROL_SEQUENCE_CORRID:
            continue
        if any(getattr(control, name) for name in _VALUES):
            yield Problem(
                path,
                "CONTROL_SEQUENCE_CORRID has false and true values",
                "remove them and write data_type",
            )
        if control.data_type not in _CORRELATION_TYPES:
            yield Problem(
                f"{path}.data_type",
                f"CONTROL_SEQUENCE_CORRID has the type {type_name(control.data_type)}",
                f"use one of {', '.join(type_name(value) for value in _CORRELATION_TYPES)}",
            )


@rule(
    "sequence.oldest-preferred",
    section=_SECTION,
    reason="a preferred batch must be one that the model takes",
    source="config",
)
def oldest_preferred_sizes_fit(model: Model) -> Iterator[Problem]:
    """Preferred batch sizes of the oldest strategy are between 1 and `max_batch_size`."""
    maximum = model.config.max_batch_size
    for index, size in enumerate(model.config.sequence_batching.oldest.preferred_batch_size):
        if not 0 < size <= maximum:
            yield Problem(
                f"sequence_batching.oldest.preferred_batch_size[{index}]",
                f"the preferred batch size {size} is not between 1 and max_batch_size {maximum}",
                "lower it, raise max_batch_size, or remove preferred_batch_size",
            )


@rule(
    "sequence.slot-utilization",
    section=_SECTION,
    reason="it is a share of the slots",
    source="config",
)
def slot_utilization_is_a_share(model: Model) -> Iterator[Problem]:
    """`minimum_slot_utilization` of the direct strategy is between 0 and 1."""
    value = model.config.sequence_batching.direct.minimum_slot_utilization
    if value < 0.0 or value > 1.0:
        yield Problem(
            "sequence_batching.direct.minimum_slot_utilization",
            f"minimum_slot_utilization is {value:g}",
            "use a number from 0 to 1",
        )

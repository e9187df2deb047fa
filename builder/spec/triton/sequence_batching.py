"""`sequence_batching`: requests that belong together, and what is kept between them."""

from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from builder.spec.base import Microseconds, PositiveInt, Strict
from builder.spec.triton.tensors import DataType, Dim, require_dims

_PAIRS: Final = ("int32_false_true", "fp32_false_true", "bool_false_true")
_CORRELATION_TYPES: Final = ("UINT64", "INT64", "UINT32", "INT32", "STRING")


class Control(Strict):
    """One fact about the sequence that the model is told."""

    kind: Literal[
        "CONTROL_SEQUENCE_START",
        "CONTROL_SEQUENCE_READY",
        "CONTROL_SEQUENCE_END",
        "CONTROL_SEQUENCE_CORRID",
    ]
    int32_false_true: list[int] = Field(default_factory=list, max_length=2)
    fp32_false_true: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(
        default_factory=list, max_length=2
    )
    bool_false_true: list[bool] = Field(default_factory=list, max_length=2)
    data_type: DataType | None = Field(default=None, description="Of CONTROL_SEQUENCE_CORRID only.")

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> "Control":
        # GetBooleanSequenceControlProperties, GetTypedSequenceControlProperties
        given = [pair for pair in _PAIRS if getattr(self, pair)]
        if self.kind == "CONTROL_SEQUENCE_CORRID":
            if given:
                raise ValueError(f"{self.kind} has a data_type, not {given[0]}")
            if self.data_type not in _CORRELATION_TYPES:
                raise ValueError(
                    f"{self.kind} needs a data_type of {', '.join(_CORRELATION_TYPES)}"
                )
            return self
        if self.data_type is not None:
            raise ValueError(f"data_type is for CONTROL_SEQUENCE_CORRID, not for {self.kind}")
        if len(given) != 1:
            raise ValueError(f"{self.kind} needs one of {', '.join(_PAIRS)}, not {len(given)}")
        if len(getattr(self, given[0])) != 2:
            raise ValueError(f"{given[0]} is two values: the one for false, the one for true")
        return self


class ControlInput(Strict):
    """A tensor with a control."""

    name: str = Field(min_length=1)
    control: list[Control] = Field(min_length=1)


class InitialState(Strict):
    """What a state is when a sequence starts."""

    name: str = Field(min_length=1)
    data_type: DataType
    dims: list[PositiveInt] = Field(min_length=1)
    zero_data: bool | None = None
    data_file: str | None = Field(
        default=None,
        min_length=1,
        description="A .npy or raw file, relative to the spec file; it is written into the "
        "model's folder `initial_state`.",
    )

    @model_validator(mode="after")
    def _has_data(self) -> "InitialState":
        if (self.zero_data is None) == (self.data_file is None):
            raise ValueError(f"the initial state {self.name} needs one of zero_data, data_file")
        return self


class State(Strict):
    """A tensor that Triton keeps between the requests of a sequence."""

    input_name: str = Field(min_length=1)
    output_name: str = Field(min_length=1)
    data_type: DataType
    dims: list[Dim]
    initial_state: list[InitialState] = Field(default_factory=list, max_length=1)
    use_same_buffer_for_input_output: bool = False
    use_growable_memory: bool = Field(default=False, description="On GPUs only.")

    @model_validator(mode="after")
    def _starts_as_what_it_is(self) -> "State":
        # ValidateInitialState of src/sequence_batch_scheduler: the server dies of some of these.
        require_dims(self.input_name, self.dims)
        if self.use_growable_memory and not self.use_same_buffer_for_input_output:
            raise ValueError(
                f"use_growable_memory of {self.input_name} needs use_same_buffer_for_input_output"
            )
        for initial in self.initial_state:
            if initial.data_type != self.data_type:
                raise ValueError(
                    f"initial_state of {self.input_name} is {initial.data_type}, its state "
                    f"{self.data_type}"
                )
            fits = len(initial.dims) == len(self.dims) and all(
                theirs in (-1, ours) for ours, theirs in zip(initial.dims, self.dims, strict=True)
            )
            if not fits:
                raise ValueError(
                    f"initial_state of {self.input_name} has the dims {initial.dims}, its state "
                    f"{self.dims}"
                )
        return self


class StrategyDirect(Strict):
    """A sequence has a place in the batch of its own until it ends."""

    max_queue_delay_microseconds: Microseconds = 0
    minimum_slot_utilization: Annotated[float, Field(ge=0, le=1)] = 0.0


class StrategyOldest(Strict):
    """The oldest requests of several sequences form a batch."""

    max_candidate_sequences: PositiveInt = Field(description="Sequences that are open at once.")
    preferred_batch_size: list[PositiveInt] = Field(default_factory=list)
    max_queue_delay_microseconds: Microseconds = 0
    preserve_ordering: bool = False


class SequenceBatching(Strict):
    """Triton's sequence batcher; without `direct` and `oldest` it is direct."""

    direct: StrategyDirect | None = None
    oldest: StrategyOldest | None = None
    max_sequence_idle_microseconds: Microseconds = Field(
        default=0, description="A sequence without requests for so long is ended; 0: one second."
    )
    control_input: list[ControlInput] = Field(default_factory=list)
    state: list[State] = Field(default_factory=list)
    iterative_sequence: bool = Field(
        default=False, description="The model may put a request back to go on with it later."
    )

    @model_validator(mode="after")
    def _one_strategy(self) -> "SequenceBatching":
        if self.direct is not None and self.oldest is not None:
            raise ValueError("direct and oldest exclude each other; keep one")
        return self

    @model_validator(mode="after")
    def _names_are_given_once(self) -> "SequenceBatching":
        _refuse_twice("control_input", (control.name for control in self.control_input))
        kinds = (control.kind for entry in self.control_input for control in entry.control)
        _refuse_twice("the control", kinds)
        _refuse_twice("the state's input_name", (state.input_name for state in self.state))
        _refuse_twice("the state's output_name", (state.output_name for state in self.state))
        return self

    @property
    def made_inputs(self) -> frozenset[str]:
        """Inputs of the model that Triton makes: no request has them."""
        controls = {control.name for control in self.control_input}
        return frozenset(controls | {state.input_name for state in self.state})

    def preferred(self) -> list[int]:
        """Preferred batch sizes of the strategy."""
        return list(self.oldest.preferred_batch_size) if self.oldest else []


def _refuse_twice(what: str, names: Iterator[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} {name} is given twice")
        seen.add(name)

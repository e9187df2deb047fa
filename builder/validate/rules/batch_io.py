"""`batch_input` and `batch_output`."""

from collections.abc import Iterator

from tritonclient.grpc import model_config_pb2 as pb

from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import rule

_SECTION = "batch_input, batch_output and ragged"


@rule(
    "batch-io.kind",
    section=_SECTION,
    reason="the backend must know how to make the tensor",
    source="config",
)
def kinds_are_known(model: Model) -> Iterator[Problem]:
    """The kinds are those of the proto."""
    for path, kind, known in [
        *((f"batch_input[{i}]", b.kind, pb.BatchInput.Kind) for i, b in _inputs(model)),
        *((f"batch_output[{i}]", b.kind, pb.BatchOutput.Kind) for i, b in _outputs(model)),
    ]:
        if kind not in known.values():
            yield Problem(
                f"{path}.kind",
                f"{path} has the kind {kind}",
                f"use one of {', '.join(known.keys())}",
            )


@rule(
    "batch-io.source",
    section=_SECTION,
    reason="every kind is computed from exactly one input",
    source="config",
)
def one_source(model: Model) -> Iterator[Problem]:
    """Each has one `source_input`, an input of the model."""
    names = {model_input.name for model_input in model.config.input}
    for path, sources in [
        *((f"batch_input[{i}]", b.source_input) for i, b in _inputs(model)),
        *((f"batch_output[{i}]", b.source_input) for i, b in _outputs(model)),
    ]:
        if len(sources) != 1:
            yield Problem(
                f"{path}.source_input",
                f"{path} has {len(sources)} source inputs, not 1",
                "give it the name of one input",
            )
        for index, name in enumerate(sources):
            if name not in names and not model.open_ended:
                yield Problem(
                    f"{path}.source_input[{index}]",
                    f"{path} is computed from {name!r}, which is no input of the model",
                    f"use one of {', '.join(sorted(names)) or 'the inputs'}",
                )


@rule(
    "batch-io.data-type",
    section=_SECTION,
    reason="Triton writes counts and shapes as int32 or float32",
    source="config",
)
def batch_inputs_are_numbers(model: Model) -> Iterator[Problem]:
    """The data type of a `batch_input` is INT32 or FP32."""
    for index, batch_input in _inputs(model):
        if batch_input.data_type not in (pb.TYPE_INT32, pb.TYPE_FP32):
            yield Problem(
                f"batch_input[{index}].data_type",
                f"batch_input[{index}] is neither TYPE_INT32 nor TYPE_FP32",
                "use one of the two",
            )


@rule(
    "batch-io.target",
    section=_SECTION,
    reason="an output is scattered into outputs that exist, each once",
    source="config",
)
def batch_outputs_have_targets(model: Model) -> Iterator[Problem]:
    """The targets of a `batch_output` are outputs of the model, each named once."""
    names = {model_output.name for model_output in model.config.output}
    for index, batch_output in _outputs(model):
        seen: set[str] = set()
        for number, name in enumerate(batch_output.target_name):
            path = f"batch_output[{index}].target_name[{number}]"
            if name not in names and not model.open_ended:
                yield Problem(
                    path,
                    f"{name!r} is no output of the model",
                    f"use one of {', '.join(sorted(names)) or 'the outputs'}",
                )
            if name in seen:
                yield Problem(path, f"the output {name!r} is named twice", "name it once")
            seen.add(name)


def _inputs(model: Model) -> Iterator[tuple[int, pb.BatchInput]]:
    yield from enumerate(model.config.batch_input)


def _outputs(model: Model) -> Iterator[tuple[int, pb.BatchOutput]]:
    yield from enumerate(model.config.batch_output)

"""An ONNX graph against the config."""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from tritonclient.grpc import model_config_pb2 as pb

from builder.releases import listed, onnx_problems
from builder.validate import shapes
from builder.validate.effective import complete_from_onnx, triton_type
from builder.validate.findings import Problem
from builder.validate.model import Model, type_name
from builder.validate.onnx_graph import GraphSignature, TensorSignature
from builder.validate.registry import rule
from builder.validate.repository import UnreadableError
from builder.validate.rules.onnx_sequence import controls, graphs, onnx_type

_SECTION = "ONNX graph"
_Io: TypeAlias = pb.ModelInput | pb.ModelOutput


def _inputs(model: Model, graph: GraphSignature) -> Iterator[tuple[str, _Io, TensorSignature]]:
    known = {**graph.inputs, **graph.overridable}
    for index, model_input in enumerate(model.config.input):
        if model_input.name in known:
            yield f"input[{index}]", model_input, known[model_input.name]


def _outputs(model: Model, graph: GraphSignature) -> Iterator[tuple[str, _Io, TensorSignature]]:
    for index, output in enumerate(model.config.output):
        if output.name in graph.outputs:
            yield f"output[{index}]", output, graph.outputs[output.name]


def _ios(model: Model, graph: GraphSignature) -> Iterator[tuple[str, _Io, TensorSignature]]:
    yield from _inputs(model, graph)
    yield from _outputs(model, graph)


@rule(
    "onnx.file",
    section=_SECTION,
    reason="ONNX Runtime loads the file when the model is loaded",
    source="onnxruntime",
)
def file_is_onnx(model: Model) -> Iterator[Problem]:
    """The file is an ONNX model."""
    if model.backend != "onnxruntime":
        return
    for version, graph in model.onnx_graphs.items():
        path = model.onnx_path(version)
        if isinstance(graph, str) and model.repository.exists(path):
            yield Problem(
                "",
                f"the file is no ONNX model: {graph}",
                "export the model again",
                file=model.file(path),
            )


@rule(
    "onnx.external-data",
    section=_SECTION,
    reason="ONNX Runtime maps the weights from the files that the model names, beside it",
    source="onnxruntime",
)
def weights_are_there(model: Model) -> Iterator[Problem]:
    """Every file with weights lies in the model file's folder and is long enough."""
    for version, graph, file in graphs(model):
        folder = model.onnx_path(version).parent
        for name, size in sorted(graph.external.items()):
            try:
                if name.startswith("/") or ".." in name.split("/"):
                    raise UnreadableError("it is outside the model's folder")  # noqa: TRY301
                found = model.repository.check_regular(folder / name)
            except UnreadableError as error:
                yield Problem(
                    "",
                    f"the weights {name!r} cannot be read: {error}",
                    "copy the file beside the model, under this name",
                    file=file,
                )
                continue
            if found < size:
                yield Problem(
                    "",
                    f"the weights {name!r} have {found} bytes, the model reads {size}",
                    "copy the whole file",
                    file=file,
                )


@rule(
    "onnx.release",
    section=_SECTION,
    reason="a Triton release has one ONNX Runtime, which refuses younger IR versions, opsets, "
    "operators and attributes",
    source="onnxruntime",
)
def release_loads_the_file(model: Model) -> Iterator[Problem]:
    """IR version, opsets of every domain, operators and attributes are the release's."""
    limits = model.target.onnx_limits
    for _, graph, file in graphs(model):
        found = onnx_problems(
            limits.onnxruntime,
            graph.opsets,
            graph.uses,
            cpu=_runs_on_cpu(model),
            custom=bool(model.config.model_operations.op_library_filename),
        )
        if graph.ir_version > limits.ir_version:
            found.insert(0, f"IR {graph.ir_version} (at most {limits.ir_version})")
        if found:
            yield Problem(
                "",
                f"the model needs {listed(found)}, which ONNX Runtime {limits.onnxruntime} of "
                f"Triton {model.target.release} does not have",
                f"export with opset {limits.opset} and operators that it has, or serve it with a "
                "newer release",
                file=file,
            )


def _runs_on_cpu(model: Model) -> bool:
    """Whether it is certain that ONNX Runtime's own kernels for a CPU run every node."""
    accelerators = model.config.optimization.execution_accelerators
    return not accelerators.cpu_execution_accelerator and all(
        group.kind == pb.ModelInstanceGroup.KIND_CPU for group in model.config.instance_group
    )


@rule(
    "onnx.batch-dim",
    section=_SECTION,
    reason="Triton joins requests along a first dim of any size",
    source="onnxruntime",
)
def graph_can_batch(model: Model) -> Iterator[Problem]:
    """With `max_batch_size` above 0, the first dim of every configured tensor is free."""
    for _, graph, file in graphs(model):
        declared_all = _declares_all(model)
        if not declared_all:
            trial = pb.ModelConfig()
            trial.CopyFrom(model.declared)
            error = complete_from_onnx(trial, graph, model.target)
            if error:
                yield Problem("max_batch_size", error, "export with a free batch dim", file=file)
            continue
        if model.config.max_batch_size <= 0:
            continue
        for path, io, tensor in _ios(model, graph):
            dims = tensor.dims
            if dims is None or not dims or _is_ragged(io) or _is_scattered(model, io):
                continue
            if dims[0] != -1:
                yield Problem(
                    path,
                    f"max_batch_size is {model.config.max_batch_size}, but {io.name!r} has the "
                    f"dims {shapes.words(dims)} in the graph, whose first dim is not free",
                    "set max_batch_size: 0 and write all dims, or export with a free batch dim",
                )


@rule(
    "onnx.inputs",
    section=_SECTION,
    reason="every input of the graph must be fed, and nothing else can be",
    source="onnxruntime",
)
def inputs_are_the_graphs(model: Model) -> Iterator[Problem]:
    """The inputs of the config, with batch inputs, controls and states, are the graph's."""
    for _, graph, _ in graphs(model):
        known = {**graph.inputs, **graph.overridable}
        for index, model_input in enumerate(model.config.input):
            if model_input.name not in known:
                yield Problem(
                    f"input[{index}].name",
                    f"the graph has no input {model_input.name!r}",
                    f"use one of {', '.join(sorted(known)) or 'none: it has no inputs'}",
                )
        fed = _fed_inputs(model)
        missing = sorted(set(graph.inputs) - set(fed))
        if missing:
            yield Problem(
                "input",
                f"the config lacks the graph's inputs {', '.join(missing)}",
                "add them, or remove all inputs and let Triton fill them in",
            )
        elif len(fed) != len(graph.inputs):
            yield Problem(
                "input",
                f"the config feeds {len(fed)} inputs, the graph has {len(graph.inputs)}",
                "name every input once",
            )


def _fed_inputs(model: Model) -> list[str]:
    """Names of the graph's inputs that requests, batch inputs, controls and states feed."""
    sequence = model.config.sequence_batching
    fed = [model_input.name for model_input in model.config.input if not model_input.optional]
    for batch_input in model.config.batch_input:
        fed += batch_input.target_name
    fed += [name for _, name, _ in controls(model)]
    fed += [state.input_name for state in sequence.state]
    return fed


@rule(
    "onnx.outputs",
    section=_SECTION,
    reason="an output that the graph does not have cannot be given",
    source="onnxruntime",
)
def outputs_are_the_graphs(model: Model) -> Iterator[Problem]:
    """The outputs of the config are the graph's."""
    for _, graph, _ in graphs(model):
        for index, output in enumerate(model.config.output):
            if output.name not in graph.outputs:
                yield Problem(
                    f"output[{index}].name",
                    f"the graph has no output {output.name!r}",
                    f"use one of {', '.join(sorted(graph.outputs))}",
                )


@rule(
    "onnx.data-type",
    section=_SECTION,
    reason="the backend hands the bytes over as they are",
    source="onnxruntime",
)
def types_are_the_graphs(model: Model) -> Iterator[Problem]:
    """The data types are the graph's."""
    for _, graph, _ in graphs(model):
        for path, io, tensor in _ios(model, graph):
            expected = triton_type(tensor.data_type, model.target)
            if expected is None:
                name = onnx_type(tensor.data_type)
                yield Problem(
                    f"{path}.data_type",
                    f"{io.name!r} is {name} in the graph, which Triton cannot feed",
                    "convert it to another type inside the graph",
                )
            elif io.data_type != expected:
                yield Problem(
                    f"{path}.data_type",
                    f"{io.name!r} is {type_name(io.data_type)} here and "
                    f"{type_name(expected)} in the graph",
                    f"write data_type: {type_name(expected)}",
                )


@rule(
    "onnx.input-dims",
    section=_SECTION,
    reason="a fixed dim of the graph takes no other size",
    source="onnxruntime_utils",
)
def input_dims_fit(model: Model) -> Iterator[Problem]:
    """Inputs have the graph's rank, and its size wherever the graph has one."""
    for _, graph, _ in graphs(model):
        for path, io, tensor in _inputs(model, graph):
            if not _is_ragged(io):
                yield from _compare(model, path, io, tensor, exact=False)


@rule(
    "onnx.output-dims",
    section=_SECTION,
    reason="Triton answers with the dims of the config, so they must be the graph's",
    source="onnxruntime_utils",
)
def output_dims_fit(model: Model) -> Iterator[Problem]:
    """Outputs have exactly the graph's dims, free dims being -1."""
    for _, graph, _ in graphs(model):
        for path, io, tensor in _outputs(model, graph):
            if not _is_scattered(model, io):
                yield from _compare(model, path, io, tensor, exact=True)


@rule(
    "onnx.ragged",
    section=_SECTION,
    reason="a ragged batch is one flat tensor",
    source="onnxruntime",
)
def ragged_inputs_are_flat(model: Model) -> Iterator[Problem]:
    """A ragged input is not optional and has one free dim in the graph."""
    for _, graph, _ in graphs(model):
        for path, io, tensor in _inputs(model, graph):
            if not _is_ragged(io):
                continue
            if tensor.dims != (-1,) or getattr(io, "optional", False):
                found = "unknown" if tensor.dims is None else shapes.words(tensor.dims)
                yield Problem(
                    f"{path}.allow_ragged_batch",
                    f"{io.name!r} is ragged, which needs a required input with dims [-1] in the "
                    f"graph; it has {found}",
                    "remove allow_ragged_batch",
                )


@rule(
    "onnx.optional",
    section=_SECTION,
    reason="a batch cannot be made of requests some of which lack an input",
    source="onnxruntime",
)
def optional_inputs_do_not_batch(model: Model) -> Iterator[Problem]:
    """Optional inputs have an initializer in the graph, and the model does not batch."""
    for _, graph, _ in graphs(model):
        for index, model_input in enumerate(model.config.input):
            if not model_input.optional:
                continue
            if model.config.max_batch_size != 0 or model_input.name in graph.inputs:
                yield Problem(
                    f"input[{index}].optional",
                    f"the input {model_input.name!r} is optional, which needs an initializer of "
                    "that name in the graph and max_batch_size: 0",
                    "remove optional",
                )


def _declares_all(model: Model) -> bool:
    declared = model.declared
    return bool((declared.input or declared.batch_input) and declared.output)


def _is_ragged(io: _Io) -> bool:
    return isinstance(io, pb.ModelInput) and io.allow_ragged_batch


def _is_scattered(model: Model, io: _Io) -> bool:
    return isinstance(io, pb.ModelOutput) and any(
        io.name in batch_output.target_name for batch_output in model.config.batch_output
    )


def _compare(
    model: Model, path: str, io: _Io, tensor: TensorSignature, *, exact: bool
) -> Iterator[Problem]:
    if tensor.dims is None:
        return
    dims = list(io.reshape.shape if io.HasField("reshape") else io.dims)
    field = f"{path}.reshape" if io.HasField("reshape") else f"{path}.dims"
    if not tensor.dims:
        if any(dim != 1 for dim in dims):
            yield Problem(
                field,
                f"{io.name!r} is a scalar in the graph, and has {shapes.words(dims)} here",
                "write dims: [ 1 ]",
            )
        return
    batching = model.config.max_batch_size > 0
    if batching and tensor.dims[0] != -1:
        return
    full = [-1, *dims] if batching else dims
    if _fits(full, tensor.dims, exact=exact):
        return
    expected = list(tensor.dims[1:] if batching else tensor.dims)
    yield Problem(
        field,
        f"{io.name!r} has dims {shapes.words(dims)} here and {shapes.words(tensor.dims)} in the "
        f"graph{', the batch dim among them' if batching else ''}",
        f"write dims: {shapes.words(expected)}"
        if expected
        else "write dims: [ 1 ] reshape { shape: [ ] }",
    )


def _fits(full: Sequence[int], graph_dims: Sequence[int], *, exact: bool) -> bool:
    return len(full) == len(graph_dims) and all(
        ours == theirs or (theirs == -1 and not exact)
        for ours, theirs in zip(full, graph_dims, strict=True)
    )

"""Sequence controls and states of a config against an ONNX graph."""

from collections.abc import Iterator

from onnx import TensorProto
from tritonclient.grpc import model_config_pb2 as pb

from builder.validate import shapes
from builder.validate.effective import triton_type
from builder.validate.findings import Problem
from builder.validate.model import Model, type_name
from builder.validate.onnx_graph import GraphSignature
from builder.validate.registry import rule

_SECTION = "ONNX graph"
_Control = pb.ModelSequenceBatching.Control
_BOOLEAN_TYPES = {
    "int32_false_true": pb.TYPE_INT32,
    "fp32_false_true": pb.TYPE_FP32,
    "bool_false_true": pb.TYPE_BOOL,
}


def graphs(model: Model) -> Iterator[tuple[int, GraphSignature, str]]:
    """Version, graph and file of every version whose graph was read."""
    if model.backend == "onnxruntime":
        for version, graph in model.onnx_graphs.items():
            if isinstance(graph, GraphSignature):
                yield version, graph, model.file(model.onnx_path(version))


def controls(model: Model) -> Iterator[tuple[str, str, int]]:
    """Path, tensor name and data type of every control."""
    for index, control_input in enumerate(model.config.sequence_batching.control_input):
        for number, control in enumerate(control_input.control):
            path = f"sequence_batching.control_input[{index}].control[{number}]"
            if control.kind == _Control.CONTROL_SEQUENCE_CORRID:
                yield path, control_input.name, control.data_type
                continue
            given = [type_ for name, type_ in _BOOLEAN_TYPES.items() if getattr(control, name)]
            if len(given) == 1:
                yield path, control_input.name, given[0]


def onnx_type(data_type: int) -> str:
    """ONNX's name of an element type."""
    if data_type in TensorProto.DataType.values():
        return TensorProto.DataType.Name(data_type)
    return f"element type {data_type}"


@rule(
    "onnx.control",
    section=_SECTION,
    reason="Triton writes a control of the type and shape that it was told",
    source="onnxruntime",
)
def controls_are_the_graphs(model: Model) -> Iterator[Problem]:
    """Sequence controls are inputs of the graph with dims [1] and the right type."""
    start = 1 if model.config.max_batch_size > 0 else 0
    for _, graph, _ in graphs(model):
        for path, name, data_type in controls(model):
            tensor = graph.inputs.get(name)
            if tensor is None:
                yield Problem(
                    path, f"the graph has no input {name!r}", "use the name of one of its inputs"
                )
                continue
            if tensor.dims is not None and tensor.dims[start:] != (1,):
                yield Problem(
                    path,
                    f"the control {name!r} has dims {shapes.words(tensor.dims)} in the graph, "
                    "without the batch dim it must be [1]",
                    "export the control with dims [1]",
                )
            if triton_type(tensor.data_type, model.target) != data_type:
                yield Problem(
                    path,
                    f"the control {name!r} is {type_name(data_type)} here and "
                    f"{onnx_type(tensor.data_type)} in the graph",
                    "use the type of the graph",
                )


@rule(
    "onnx.state",
    section=_SECTION,
    reason="the backend carries the state from the output to the input",
    source="onnxruntime",
)
def states_are_the_graphs(model: Model) -> Iterator[Problem]:
    """States are inputs and outputs of the graph with the state's type."""
    for _, graph, _ in graphs(model):
        for index, state in enumerate(model.config.sequence_batching.state):
            for field, name, tensors in (
                ("input_name", state.input_name, graph.inputs),
                ("output_name", state.output_name, graph.outputs),
            ):
                path = f"sequence_batching.state[{index}].{field}"
                tensor = tensors.get(name)
                if tensor is None:
                    kind = field.partition("_")[0]
                    yield Problem(
                        path,
                        f"the graph has no {kind} {name!r}",
                        f"use one of {', '.join(sorted(tensors))}",
                    )
                elif triton_type(tensor.data_type, model.target) != state.data_type:
                    yield Problem(
                        path,
                        f"the state {name!r} is {type_name(state.data_type)} here and "
                        f"{onnx_type(tensor.data_type)} in the graph",
                        "use the type of the graph",
                    )

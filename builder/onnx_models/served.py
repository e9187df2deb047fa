"""Tensors of a graph that Triton makes or keeps itself: controls, states, and those of a batch."""

from builder.errors import SpecError
from builder.onnx_models.signature import GraphSignature, GraphTensor
from builder.spec.onnx_file import OnnxOutput, OnnxSpec


def made_inputs(spec: OnnxSpec) -> frozenset[str]:
    """Inputs of the graph that no request has."""
    sequence = spec.model.sequence_batching
    batch = {name for entry in spec.model.batch_input for name in entry.target_name}
    return (sequence.made_inputs if sequence else frozenset()) | batch


def is_ragged(spec: OnnxSpec) -> bool:
    """Whether requests of other shapes share a batch, which then has no row for each."""
    return any(tensor.allow_ragged_batch for tensor in spec.inputs)


def cut_outputs(spec: OnnxSpec) -> frozenset[str]:
    """Outputs that are one long tensor, cut into responses; their dims are those of a part."""
    return frozenset(name for entry in spec.model.batch_output for name in entry.target_name)


def kept_outputs(spec: OnnxSpec) -> list[OnnxOutput]:
    """Outputs that the served graph has: those of requests, and the states."""
    cut = cut_outputs(spec)
    outputs = [
        tensor.model_copy(update={"dims": []}) if tensor.name in cut else tensor
        for tensor in spec.outputs
    ]
    names = {tensor.name for tensor in outputs}
    sequence = spec.model.sequence_batching
    states = (
        [state for state in sequence.state if state.output_name not in names] if sequence else []
    )
    return outputs + [
        OnnxOutput.model_validate({"name": s.output_name, "data_type": s.data_type, "dims": s.dims})
        for s in states
    ]


def made_tensors(spec: OnnxSpec, signature: GraphSignature) -> tuple[GraphTensor, ...]:
    """The graph's own tensors for what Triton makes.

    Raises:
        SpecError: the graph has no such input, or one of another type.
    """
    known = {tensor.name: tensor for tensor in signature.inputs}
    wanted = made_inputs(spec)
    for name in sorted(wanted):
        if name not in known:
            raise SpecError(
                f"model: the graph has no input '{name}' for what Triton makes; it has "
                f"{', '.join(known)}"
            )
    sequence = spec.model.sequence_batching
    for state in sequence.state if sequence else []:
        _require_type("state", state.data_type, known[state.input_name])
    for entry in spec.model.batch_input:
        for name in entry.target_name:
            _require_type("batch_input", entry.data_type, known[name])
    return tuple(tensor for name, tensor in known.items() if name in wanted)


def require_flat(tensor: GraphTensor) -> None:
    """Refuse a ragged input that the graph does not take flat.

    Raises:
        SpecError: its dims are not [-1].
    """
    if len(tensor.dims) != 1 or isinstance(tensor.dims[0], int):
        raise SpecError(
            f"allow_ragged_batch: input '{tensor.name}' is {list(tensor.dims)} in the graph; it "
            "must be [-1], the values of all requests one after the other"
        )


def _require_type(what: str, data_type: str, tensor: GraphTensor) -> None:
    if tensor.data_type != data_type:
        raise SpecError(
            f"{what}: '{tensor.name}' is {tensor.data_type} in the graph, not {data_type}"
        )

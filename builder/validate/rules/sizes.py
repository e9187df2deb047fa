"""Numbers of elements and bytes that 64 bits do not hold.

Lines of core at r26.06: dims of inputs backend_model.cc 831 (the scheduler), reshapes
model_config_utils.cc 358, warmup backend_model_instance.cc 376, states sequence_state.cc 215 and
sequence_batch_scheduler.cc 409. Triton before 26.03 goes on with a number that wrapped around.
"""

from collections.abc import Iterator, Sequence

from builder.validate import data_types, shapes
from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import rule
from builder.validate.rules.warmup import samples

_SECTION = "tensors and formats"


@rule(
    "tensor.size",
    section=_SECTION,
    reason="since 26.03 Triton refuses dims whose elements or bytes it can't count in 64 bits; "
    "before, it goes on with a wrong number",
    source="sizes",
)
def sizes_fit(model: Model) -> Iterator[Problem]:
    """Elements and bytes of inputs, reshapes, warmup samples and states fit into 64 bits."""
    if not model.target.has("element-counts"):
        return
    for path, dims, size in _counted(model):
        found = shapes.size_problem(dims, size)
        # tensor.dims and reshape.dims, of all releases, have the dims below -1 of the others.
        if found and not (found.startswith("the dim") and path.startswith(("input", "output"))):
            yield Problem(
                path,
                f"dims {shapes.words(dims)} have {found}",
                "write the dims that the tensor really has",
            )


def _counted(model: Model) -> Iterator[tuple[str, Sequence[int], int]]:
    """Path, dims and bytes of an element of all that Triton counts; 1 where it counts elements."""
    config = model.config
    for kind, tensors in (("input", config.input), ("output", config.output)):
        for index, io in enumerate(tensors):
            if io.HasField("reshape"):
                yield f"{kind}[{index}].dims", io.dims, 1
                yield f"{kind}[{index}].reshape", io.reshape.shape, 1
            elif kind == "input" and not (model.is_ensemble or io.is_shape_tensor):
                yield f"{kind}[{index}].dims", io.dims, 1
    for place, sample in samples(model):
        for name, value in sorted(sample.inputs.items()):
            yield f'{place}.inputs["{name}"].dims', value.dims, _bytes(value.data_type)
    for number, state in enumerate(config.sequence_batching.state):
        path = f"sequence_batching.state[{number}]"
        if state.initial_state:
            for index, initial in enumerate(state.initial_state):
                place = f"{path}.initial_state[{index}].dims"
                yield place, initial.dims, _bytes(initial.data_type)
        else:
            fixed = [1 if dim == shapes.WILDCARD else dim for dim in state.dims]
            yield f"{path}.dims", fixed, _bytes(state.data_type)


def _bytes(data_type: int) -> int:
    """Bytes of an element; a string counts as its length, 4 bytes."""
    return data_types.byte_size(data_type) or 4

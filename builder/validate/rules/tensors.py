"""Inputs and outputs: names, data types, dims, reshape and formats."""

from collections.abc import Iterator
from typing import TypeAlias

from tritonclient.grpc import model_config_pb2 as pb

from builder.validate import shapes
from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import rule

_TENSORS = "tensors and formats"
_RESHAPE = "reshape"
_Io: TypeAlias = pb.ModelInput | pb.ModelOutput


def _ios(model: Model) -> Iterator[tuple[str, _Io]]:
    for index, model_input in enumerate(model.config.input):
        yield f"input[{index}]", model_input
    for index, model_output in enumerate(model.config.output):
        yield f"output[{index}]", model_output


def _words(path: str, io: _Io) -> str:
    return f"{path.partition('[')[0]} {io.name!r}"


@rule(
    "tensor.name",
    section=_TENSORS,
    reason="a tensor is addressed by its name",
    source="config",
)
def tensors_have_names(model: Model) -> Iterator[Problem]:
    """Every input and output has a name."""
    for path, io in _ios(model):
        if not io.name:
            yield Problem(f"{path}.name", f"{path} has no name", 'add name: "..."')


@rule(
    "tensor.data-type",
    section=_TENSORS,
    reason="Triton checks every request's data type against the config's",
    source="config",
)
def tensors_have_types(model: Model) -> Iterator[Problem]:
    """Every input and output has a data type."""
    for path, io in _ios(model):
        if io.data_type == pb.TYPE_INVALID and not model.open_ended:
            yield Problem(
                f"{path}.data_type",
                f"{_words(path, io)} has no data_type",
                "add data_type: TYPE_FP32 or the like",
            )


@rule(
    "tensor.dims",
    section=_TENSORS,
    reason="a tensor needs a shape; a dim is at least 1, or -1 for any size",
    source="config",
)
def tensors_have_dims(model: Model) -> Iterator[Problem]:
    """Every input and output has dims, each of them -1 or at least 1."""
    for path, io in _ios(model):
        if not io.dims and not model.open_ended:
            yield Problem(
                f"{path}.dims",
                f"{_words(path, io)} has no dims",
                "add dims: [ ... ], without the batch dim; for a scalar dims: [ 1 ]",
            )
        for index, dim in enumerate(io.dims):
            if dim < 1 and dim != shapes.WILDCARD:
                yield Problem(
                    f"{path}.dims[{index}]",
                    f"{_words(path, io)} has the dim {dim}",
                    "use -1 for any size, else a size of at least 1",
                )


@rule(
    "reshape.dims",
    section=_RESHAPE,
    reason="a reshape's dims follow the rules of dims",
    source="config",
)
def reshape_dims_are_valid(model: Model) -> Iterator[Problem]:
    """Every dim of a reshape is -1 or at least 1."""
    for path, io in _ios(model):
        for index, dim in enumerate(io.reshape.shape):
            if dim < 1 and dim != shapes.WILDCARD:
                yield Problem(
                    f"{path}.reshape.shape[{index}]",
                    f"the reshape of {_words(path, io)} has the dim {dim}",
                    "use -1 for any size, else a size of at least 1",
                )


@rule(
    "reshape.empty",
    section=_RESHAPE,
    reason="without a batch dim an empty shape would be a tensor without data",
    source="config",
)
def reshape_is_not_empty(model: Model) -> Iterator[Problem]:
    """An empty reshape needs a model that batches."""
    for path, io in _ios(model):
        if io.HasField("reshape") and not io.reshape.shape and model.config.max_batch_size == 0:
            yield Problem(
                f"{path}.reshape",
                f"the reshape of {_words(path, io)} is empty, and the model does not batch",
                "write reshape { shape: [ 1 ] } or set max_batch_size",
            )


@rule(
    "reshape.size",
    section=_RESHAPE,
    reason="a reshape may not change the number of elements, nor what lies between free dims",
    source="config",
)
def reshape_keeps_the_size(model: Model) -> Iterator[Problem]:
    """Dims and reshape have as many elements, run by run between the free dims."""
    for path, io in _ios(model):
        if not io.HasField("reshape"):
            continue
        dims = shapes.element_count(io.dims)
        reshaped = shapes.element_count(io.reshape.shape)
        fits = dims == reshaped or (reshaped == 0 and dims == 1)
        if fits and dims == shapes.WILDCARD:
            fits = shapes.trunks(io.dims) == shapes.trunks(io.reshape.shape)
        if not fits:
            yield Problem(
                f"{path}.reshape",
                f"{_words(path, io)} with dims {shapes.words(io.dims)} cannot be reshaped to "
                f"{shapes.words(io.reshape.shape)}",
                "give the reshape as many elements as dims, and as many between each -1",
            )


@rule(
    "format.rank",
    section=_TENSORS,
    reason="an image has height, width and channels",
    source="config",
)
def formats_have_three_dims(model: Model) -> Iterator[Problem]:
    """`FORMAT_NHWC` and `FORMAT_NCHW` need three dims."""
    formats = (pb.ModelInput.FORMAT_NHWC, pb.ModelInput.FORMAT_NCHW)
    for index, model_input in enumerate(model.config.input):
        if model_input.format in formats and len(model_input.dims) != 3:
            yield Problem(
                f"input[{index}].format",
                f"input {model_input.name!r} has an image format but {len(model_input.dims)} dims",
                "give it three dims, without the batch dim, or remove the format",
            )


@rule(
    "format.shape-tensor",
    section=_TENSORS,
    reason="only TensorRT has tensors that hold shapes",
    source="config",
)
def shape_tensors_are_tensorrt(model: Model) -> Iterator[Problem]:
    """`is_shape_tensor` needs a TensorRT plan."""
    for path, io in _ios(model):
        if io.is_shape_tensor and model.config.platform != "tensorrt_plan":
            yield Problem(
                f"{path}.is_shape_tensor",
                f"{_words(path, io)} is a shape tensor, but the model is no TensorRT plan",
                "remove is_shape_tensor",
            )


@rule(
    "format.non-linear",
    section=_TENSORS,
    reason="only TensorRT has non-linear formats, and they are for images",
    source="config",
)
def non_linear_is_tensorrt(model: Model) -> Iterator[Problem]:
    """`is_non_linear_format_io` needs a TensorRT plan and three dims."""
    for path, io in _ios(model):
        if not io.is_non_linear_format_io:
            continue
        if model.config.platform != "tensorrt_plan" or len(io.dims) != 3:
            yield Problem(
                f"{path}.is_non_linear_format_io",
                f"{_words(path, io)} has a non-linear format, which needs a TensorRT plan and "
                "three dims",
                "remove is_non_linear_format_io",
            )


@rule(
    "tensor.duplicate",
    section=_TENSORS,
    reason="Triton keeps the first of two tensors of a name and ignores the other",
    source="model",
    severity="advice",
)
def tensors_have_names_of_their_own(model: Model) -> Iterator[Problem]:
    """No two inputs, and no two outputs, have the same name."""
    seen: set[tuple[str, str]] = set()
    for path, io in _ios(model):
        key = (path.partition("[")[0], io.name)
        if key in seen:
            yield Problem(
                f"{path}.name",
                f"there are two {key[0]}s called {io.name!r}",
                "give each a name of its own",
            )
        seen.add(key)

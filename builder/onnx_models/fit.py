"""An ONNX file brought to the opset and IR that a release loads, where that loses nothing."""

import copy
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import onnx

from builder.errors import BuilderError, ExportError
from builder.onnx_models.process import Bounds, run_bounded
from builder.onnx_models.source import OnnxSource, initializers_of, open_source
from builder.releases import domain_name, introduced, listed, onnx_problems, opsets_of, uses_of
from builder.spec.onnx_file import OnnxTensor
from builder.spec.releases import OnnxLimits

_SOURCE_PLACE = re.compile(r"^/\S+:\d+: (?:\w+: )?")
"""Where in the converter's own source it stopped."""

_MOST_CONVERTED_BYTES = 1_900_000_000
_TYPES_OF_IR = {23: 11, 24: 12, 25: 13, 26: 13}
"""Element type -> first IR that has it: FLOAT4E2M1, FLOAT8E8M0, UINT2, INT2.
https://github.com/onnx/onnx/blob/main/docs/Versioning.md"""


def write_fitted(
    source: OnnxSource,
    outputs: Sequence[OnnxTensor],
    limits: OnnxLimits,
    folder: Path,
    *,
    batched: bool,
    cpu: bool = False,
) -> None:
    """Write `model.onnx` and its weights; a file that fits is copied byte for byte.

    Args:
        source: The file.
        outputs: The graph's outputs that are kept. A dim that has a size here and none in the file
            gets it there: Triton compares the two, and whether ONNX Runtime finds it by itself
            depends on its version and graph optimizations.
        limits: What the release loads.
        folder: The model's version folder.
        batched: Whether the outputs lack the batch dim.
        cpu: Whether a CPU runs every node.

    Raises:
        ExportError: the file can't be brought to what the release loads.
    """
    model = copy.deepcopy(source.model)
    changed = _lower_imports(model, limits)
    converted = opsets_of(model.opset_import).get("ai.onnx", 0) > limits.opset
    if converted:
        model = _converted(source, limits)
        _lower_imports(model, limits)
    _check_operators(source, model, limits, cpu=cpu)
    changed |= converted or source.model.ir_version > limits.ir_version
    if source.model.ir_version > limits.ir_version:
        _check_types(source, limits)
    model.ir_version = min(source.model.ir_version, limits.ir_version)
    wanted = {tensor.name: tensor.dims for tensor in outputs}
    kept = [copy.deepcopy(value) for value in model.graph.output if value.name in wanted]
    changed |= len(kept) < len(model.graph.output)
    for value in kept:
        changed |= _state_dims(value, wanted[value.name], batched=batched)
    target = folder / "model.onnx"
    if not converted:
        _copy_data(source, folder)  # else the weights are in the model now
    if not changed:
        shutil.copyfile(source.path, target)
        return
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.save_model(model, str(target))


def _state_dims(value: onnx.ValueInfoProto, dims: list[int], *, batched: bool) -> bool:
    """Give free dims of an output the sizes of the spec; whether there were any."""
    stated = value.type.tensor_type.shape.dim[1 if batched else 0 :]
    changed = False
    for dim, size in zip(stated, dims, strict=False):
        if size > 0 and not dim.HasField("dim_value"):
            dim.dim_value = size
            changed = True
    return changed


def _copy_data(source: OnnxSource, folder: Path) -> None:
    for name in source.data_files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.path.parent / name, path)


def _lower_imports(model: onnx.ModelProto, limits: OnnxLimits) -> bool:
    """Lower the imports of opsets over the limits whose used operators are the same in both.

    Returns:
        Whether there were any.
    """
    uses = uses_of(model)
    changed = False
    for one in model.opset_import:
        domain = domain_name(one.domain)
        highest = limits.opsets.get(domain, one.version)
        if one.version > highest and all(
            0 < introduced(domain, use.operator, one.version) <= highest
            for use in uses
            if use.domain == domain
        ):
            one.version = highest
            changed = True
    return changed


def _check_operators(
    source: OnnxSource, model: onnx.ModelProto, limits: OnnxLimits, *, cpu: bool
) -> None:
    found = onnx_problems(
        limits.onnxruntime, opsets_of(model.opset_import), uses_of(model), cpu=cpu
    )
    if found:
        raise ExportError(
            f"{source.path}: needs {listed(found)}, which ONNX Runtime {limits.onnxruntime} does "
            "not have; export it without, or build for a newer triton_release"
        )


def _check_types(source: OnnxSource, limits: OnnxLimits) -> None:
    for tensor in initializers_of(source.model.graph):
        since = _TYPES_OF_IR.get(tensor.data_type, 0)
        if since > limits.ir_version:
            name = onnx.TensorProto.DataType.Name(tensor.data_type)
            raise ExportError(
                f"{source.path}: weight '{tensor.name}' is {name}, which IR {limits.ir_version} of "
                f"ONNX Runtime {limits.onnxruntime} does not know; export the model without it"
            )


def _converted(source: OnnxSource, limits: OnnxLimits) -> onnx.ModelProto:
    why = (
        f"{source.path}: has opset {source.opset}, ONNX Runtime {limits.onnxruntime} loads up to "
        f"{limits.opset}"
    )
    size = sum((source.path.parent / n).stat().st_size for n in source.data_files)
    if size + source.path.stat().st_size > _MOST_CONVERTED_BYTES:
        raise ExportError(
            f"{why}, and it is too large to be converted here; export it with opset {limits.opset}"
        )
    try:
        data: bytes = run_bounded(
            f"{__name__}:_convert", source.path, Bounds.of(source.path), limits.opset
        )
    except _ConverterError as error:
        raise ExportError(
            f"{why}, and it can't be converted ({error}); export it with opset {limits.opset} or "
            "build for a newer triton_release"
        ) from error
    return onnx.load_model_from_string(data)


class _ConverterError(BuilderError):
    """What ONNX's version converter says."""


def _convert(path: Path, opset: int) -> bytes:
    """The file in another opset, in a process of its own: checker and converter are C++."""
    open_source(path).check_whole()
    try:
        converted = onnx.version_converter.convert_version(onnx.load(str(path)), opset)
    except Exception as error:  # RuntimeError and its own
        text = _SOURCE_PLACE.sub("", " ".join(str(error).split()))
        raise _ConverterError(text[:160] or type(error).__name__) from error
    return converted.SerializeToString()

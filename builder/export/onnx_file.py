"""torch modules to ONNX files that a given Triton release loads."""

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from builder.contrib import attention, kernels
from builder.errors import ExportError, disk_full
from builder.releases import listed, onnx_problems, opsets_of, uses_of
from builder.spec.releases import OnnxLimits

EXPORT_OPSET = 18
"""The opset that torch's exporter writes natively; TensorRT 10 reads it as well."""

INLINE_BYTES = 1_000_000_000
"""Larger graphs keep their weights in a file beside (protobuf ends at 2 GiB)."""


def export_module(
    module: nn.Module,
    args: tuple[Any, ...],
    path: Path,
    *,
    input_names: list[str],
    output_names: list[str],
    dynamic_shapes: Any,
    limits: OnnxLimits,
    name: str | None = None,
) -> None:
    """Export a module with `torch.onnx` and write it for a Triton release.

    Args:
        module: In eval mode.
        args: Example inputs; a dynamic dim should not be 0 or 1 in them.
        path: The file to write; large weights go to `<path>.data`.
        input_names: Names of the graph's inputs, nested arguments flattened.
        output_names: Names of its outputs.
        dynamic_shapes: As `torch.export.export` takes them.
        limits: What the release can load.
        name: What an error calls the graph; None: the file's name.

    Raises:
        ExportError: the exporter refused the module, or wrote what the release can't load.
    """
    noise = io.StringIO()
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(noise), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                args,
                input_names=input_names,
                output_names=output_names,
                dynamic_shapes=dynamic_shapes,
                opset_version=min(EXPORT_OPSET, limits.opset),
                custom_translation_table={
                    **attention.translation_table(),
                    **kernels.translation_table(),
                },
                dynamo=True,
                optimize=True,
                verbose=False,
            )
        assert program is not None
        program.model.ir_version = min(limits.ir_version, program.model.ir_version or 10)
        size = sum(p.numel() * p.element_size() for p in module.parameters())
        program.save(str(path), external_data=size > INLINE_BYTES)
    except Exception as error:
        raise_disk_full(error)
        raise ExportError(
            f"{name or path.name}: the ONNX export failed: {root_cause(error)}"
        ) from error
    check_limits(path, limits)


def save_model(model: onnx.ModelProto, path: Path) -> None:
    """Write a model whose weights are in it; large ones go to `<path>.data`."""
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    onnx.save(
        model,
        path,
        save_as_external_data=size > INLINE_BYTES,
        location=f"{path.name}.data",
    )


def raise_disk_full(error: BaseException | None) -> None:
    """Raise the OSError of a full disk behind an exporter's error, if there is one."""
    while error is not None:
        if full := disk_full(error):
            raise full
        error = error.__cause__


def root_cause(error: BaseException) -> str:
    """The first line of the innermost error: the exporter wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def check_limits(path: Path, limits: OnnxLimits) -> None:
    """Refuse a file that a release can't load.

    Raises:
        ExportError: its IR, an opset, an operator or an attribute is too new.
    """
    model = onnx.load(path, load_external_data=False)
    found = onnx_problems(limits.onnxruntime, opsets_of(model.opset_import), uses_of(model))
    if model.ir_version > limits.ir_version:
        found.insert(0, f"IR {model.ir_version} (at most {limits.ir_version})")
    if found:
        raise ExportError(
            f"{path.name}: {listed(found)} is more than ONNX Runtime {limits.onnxruntime} loads"
        )

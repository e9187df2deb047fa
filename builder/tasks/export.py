"""A task's graph to ONNX, by the exporter that a spec names: same names and shapes by each."""

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import onnx_ir
import torch
from transformers.exporters import OnnxConfig, OnnxExporter

from builder.errors import ExportError
from builder.export.onnx_file import (
    EXPORT_OPSET,
    INLINE_BYTES,
    check_limits,
    export_module,
    raise_disk_full,
    root_cause,
)
from builder.spec.releases import OnnxLimits
from builder.spec.task import Exporter
from builder.tasks.optimum import export_by_optimum
from builder.tasks.task import Graph


def export_graph(graph: Graph, path: Path, exporter: Exporter, limits: OnnxLimits) -> None:
    """Export a graph.

    Args:
        graph: The graph.
        path: The file to write; large weights go to a file beside it.
        exporter: Which exporter.
        limits: What the Triton release can load.

    Raises:
        ExportError: the exporter refused the module, or wrote what the release can't load.
    """
    if exporter == "optimum":
        export_by_optimum(graph, path, limits)
        return
    if exporter == "torch":
        shapes = {
            name: dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for name, axes in graph.axes.items()
        }
        export_module(
            graph.module,
            tuple(graph.example[tensor.name] for tensor in graph.inputs),
            path,
            input_names=[tensor.name for tensor in graph.inputs],
            output_names=[tensor.name for tensor in graph.outputs],
            dynamic_shapes=shapes,
            limits=limits,
            name=graph.name,
        )
        return
    _by_transformers(graph, path, limits)


def _by_transformers(graph: Graph, path: Path, limits: OnnxLimits) -> None:
    config = OnnxConfig(
        dynamic_shapes={
            name: dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for name, axes in graph.axes.items()
        },
        opset_version=min(EXPORT_OPSET, limits.opset),
    )
    for library in ("onnxscript", "torch.onnx", "torch.export"):
        logging.getLogger(library).setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            torch.no_grad(),
        ):
            warnings.simplefilter("ignore")
            module: Any = graph.module
            program = OnnxExporter().export(module, dict(graph.example), config).program
        # The exporter names outputs after the fields of a model's own output class.
        for value, tensor in zip(program.graph.outputs, graph.outputs, strict=True):
            value.name = tensor.name
        program.ir_version = min(limits.ir_version, program.ir_version or 10)
        size = sum(p.numel() * p.element_size() for p in graph.module.parameters())
        data = f"{path.name}.data" if size > INLINE_BYTES else None
        onnx_ir.save(program, str(path), external_data=data)
    except Exception as error:
        raise_disk_full(error)
        raise ExportError(f"{graph.name}: the ONNX export failed: {root_cause(error)}") from error
    check_limits(path, limits)

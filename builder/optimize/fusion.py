"""Fusing a graph into ONNX Runtime's own operators.

The levels are optimum's (`AutoOptimizationConfig` in optimum/onnxruntime/configuration.py):
O1 basic optimizations of ONNX Runtime; O2 extended ones and fusions for transformers; O3 the same
with GELU approximated; O4 the same in fp16. ONNX Runtime's transformer optimizer, which optimum
runs for O2, finds little in graphs of torch's present exporter; the fusions that come with
transformers' exporter are made for them.
"""

import importlib
from pathlib import Path
from typing import Final

import onnx_ir as ir
import onnxruntime as ort

from builder.optimize.rewrite import CONTRIB, insert, load, replace
from builder.spec.precision import Optimization
from builder.spec.releases import OnnxLimits

_SUM_OUTPUT: Final = 3
"""Place of the sum among the outputs of SkipLayerNormalization."""

# GroupQueryAttention takes a bias and no cache since ONNX Runtime 1.21.
_UNBOUND_ATTENTION: Final = (1, 21)


def _version(limits: OnnxLimits) -> tuple[int, ...]:
    return tuple(int(part) for part in limits.onnxruntime.split(".")[:2])


def _basic(source: Path, scratch: Path) -> ir.Model:
    """ONNX Runtime's basic optimizations, written by ONNX Runtime itself."""
    path = scratch / "basic.onnx"
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    data = "session.optimized_model_external_initializers_"
    options.add_session_config_entry(f"{data}file_name", f"{path.name}.data")
    options.add_session_config_entry(f"{data}min_size_in_bytes", "1024")
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return load(path)


def _exporter_fusions(model: ir.Model, limits: OnnxLimits) -> None:
    """The fusions of transformers' exporter for CPU, as far as the release knows the operators."""
    fusions = importlib.import_module("transformers.exporters.onnxruntime_fusions")
    for step, providers in fusions._STEPS:
        name = getattr(getattr(step, "func", step), "__name__", "")
        if name == "_fuse_group_query_attention" and _version(limits) < _UNBOUND_ATTENTION:
            continue
        if providers is None or "cpu" in providers:
            step(model)


def _approximate_gelu(model: ir.Model) -> None:
    """`Gelu` and `BiasGelu` by their tanh approximation."""
    for node in list(model.graph):
        if node.domain == CONTRIB and node.op_type in {"Gelu", "BiasGelu"}:
            output = insert(node, "FastGelu", list(node.inputs), domain=CONTRIB)
            replace(node, output)


def _split_skip_norms(model: ir.Model) -> None:
    """`SkipLayerNormalization` to a sum and a norm: exact, and 5 times faster on CPU.

    ONNX Runtime's fused kernel handles a row value by value, its LayerNormalization is vectorized.
    The sum is a `Sum`, not an `Add`, or the session would fuse the two again.
    """
    for node in list(model.graph):
        if node.domain != CONTRIB or node.op_type != "SkipLayerNormalization":
            continue
        x, skip, weight, shift, *rest = node.inputs
        if rest and rest[0] is not None:
            x = insert(node, "Add", [x, rest[0]])
        total = insert(node, "Sum", [x, skip])
        normal = insert(
            node,
            "LayerNormalization",
            [total, weight, shift],
            attributes={"axis": -1, "epsilon": node.attributes.get_float("epsilon", 1e-12)},
        )
        if len(node.outputs) > _SUM_OUTPUT:
            old = node.outputs[_SUM_OUTPUT]
            total.shape, total.type = old.shape, old.type
            old.replace_all_uses_with(total)
        replace(node, normal)


def fuse(source: Path, level: Optimization, limits: OnnxLimits, scratch: Path) -> ir.Model:
    """Read a graph and fuse it.

    Args:
        source: The exported file.
        level: How far; O4's fp16 is up to the caller.
        limits: What the Triton release can load.
        scratch: A folder for files in between; the graph may read its weights from there.

    Returns:
        The fused graph, its weights unread where they are in a file beside.
    """
    if level == "none":
        return load(source)
    if level == "O1":
        return _basic(source, scratch)
    model = load(source)
    _exporter_fusions(model, limits)
    if level in {"O3", "O4"}:
        _approximate_gelu(model)
    if level == "tuned":
        _split_skip_norms(model)
    model.ir_version = min(limits.ir_version, model.ir_version or limits.ir_version)
    return model

"""ONNX to TensorRT engines. Needs the `tensorrt` extra and a GPU; imported only when used.

https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/python-api-docs.html
"""

import importlib
from pathlib import Path
from typing import Any

from builder.errors import ToolError
from builder.spec.models import Precision


def _tensorrt() -> Any:
    try:
        return importlib.import_module("tensorrt")
    except ImportError as error:
        raise ToolError(
            "target tensorrt needs TensorRT: install the extra (pip install "
            f"'triton-repository-builder[tensorrt]') on a machine with a GPU ({error})"
        ) from error


def build_plan(
    onnx: Path, plan: Path, *, max_batch_size: int, precision: Precision, preferred: int
) -> None:
    """Build an engine whose batch dim goes from 1 to the largest batch.

    Args:
        onnx: The graph; dim 0 of every input is the batch.
        plan: The engine file to write.
        max_batch_size: Largest batch of the profile.
        precision: Highest-performance precision that layers may use.
        preferred: The batch that kernels are tuned for.

    Raises:
        ToolError: TensorRT is missing or refuses the graph.
    """
    trt = _tensorrt()
    logger = trt.Logger(trt.Logger.WARNING)
    engine_builder = trt.Builder(logger)
    # TensorRT 10: every network has an explicit batch dim.
    network = engine_builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ToolError(f"{onnx.name}: TensorRT can't read the graph: {reasons}")
    config = engine_builder.create_builder_config()
    if precision == "fp16":
        config.set_flag(trt.BuilderFlag.FP16)
    profile = engine_builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        rest = tuple(tensor.shape)[1:]
        shapes = ((batch, *rest) for batch in (1, preferred, max_batch_size))
        profile.set_shape(tensor.name, *shapes)
    config.add_optimization_profile(profile)
    engine = engine_builder.build_serialized_network(network, config)
    if engine is None:
        raise ToolError(f"{onnx.name}: TensorRT could not build an engine; see its log above")
    plan.write_bytes(bytes(engine))

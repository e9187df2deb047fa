"""The model config of an ONNX file."""

from pathlib import Path

from builder.render.model_config import ModelConfig
from builder.render.settings import GRAPH_LEVELS, session_parameters, with_settings
from builder.render.tensors import input_tensor, label_files, output_tensor
from builder.spec.onnx_file import OnnxModel, OnnxSpec


def graph_level(model: OnnxModel) -> int:
    """Triton's optimization.graph.level, under whichever of its two names it is given."""
    given = model.optimization.graph if model.optimization else None
    return given.level if given else GRAPH_LEVELS[model.onnxruntime.graph_optimization]


def model_config(spec: OnnxSpec, base: Path) -> ModelConfig:
    """The config; the ONNX file is not read.

    Args:
        spec: The spec.
        base: Folder of the spec file.

    Raises:
        SpecError: a setting does not fit the model's tensors, or a file can't be read.
    """
    model = spec.model
    batched = bool(model.max_batch_size)
    config = ModelConfig(
        backend="onnxruntime",
        name=spec.name,
        max_batch_size=model.max_batch_size,
        inputs=tuple(input_tensor(tensor, batched=batched) for tensor in spec.inputs),
        outputs=tuple(output_tensor(tensor, batched=batched) for tensor in spec.outputs),
        parameters=session_parameters(model.onnxruntime),
        graph_level=graph_level(model),
        files=label_files(spec.name, spec.outputs, base),
    )
    return with_settings(config, model, target=spec.target, release=spec.triton_release, base=base)

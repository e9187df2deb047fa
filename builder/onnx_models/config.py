"""The model config of an ONNX file."""

from dataclasses import replace
from pathlib import Path

from builder.render.model_config import ModelConfig, Tensor
from builder.render.model_files import Source
from builder.render.settings import GRAPH_LEVELS, session_parameters, with_settings
from builder.spec.onnx_file import OnnxInput, OnnxOutput, OnnxSpec, OnnxTensor


def _tensor(tensor: OnnxTensor, *, batched: bool) -> Tensor:
    """A scalar is written as dims [1]; in a batch it is reshaped to none.

    https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_configuration.md#reshape
    """
    reshape = () if batched and not tensor.dims else None
    return Tensor(
        tensor.name,
        tensor.data_type,
        tuple(tensor.dims) or (1,),
        optional=tensor.optional,
        reshape=reshape,
    )


def _input(tensor: OnnxInput, *, batched: bool) -> Tensor:
    return replace(
        _tensor(tensor, batched=batched),
        allow_ragged_batch=tensor.allow_ragged_batch,
        format=tensor.format,
    )


def _output(tensor: OnnxOutput, *, batched: bool) -> Tensor:
    label = Path(tensor.label_filename).name if tensor.label_filename else ""
    return replace(_tensor(tensor, batched=batched), label_filename=label)


def _labels(spec: OnnxSpec, base: Path) -> dict[str, bytes]:
    """Label files by their name in the model's folder."""
    files: dict[str, bytes] = {}
    for tensor in spec.outputs:
        if tensor.label_filename:
            source = Source(f"{spec.name}: label_filename of {tensor.name}", base)
            name, data = Path(tensor.label_filename).name, source.read(tensor.label_filename)
            if files.setdefault(name, data) != data:
                raise source.fail(f"two label files are called {name}; rename one")
    return files


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
        kind="onnxruntime",
        name=spec.name,
        max_batch_size=model.max_batch_size,
        inputs=tuple(_input(tensor, batched=batched) for tensor in spec.inputs),
        outputs=tuple(_output(tensor, batched=batched) for tensor in spec.outputs),
        parameters=session_parameters(model.onnxruntime),
        graph_level=GRAPH_LEVELS[model.onnxruntime.graph_optimization],
        files=_labels(spec, base),
    )
    return with_settings(config, model, target=spec.target, release=spec.triton_release, base=base)

"""Tensors that a spec declares, in the terms of a model config, and the labels of outputs."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from builder.render.model_config import Tensor
from builder.render.model_files import Source
from builder.spec.onnx_file import OnnxInput, OnnxOutput, OnnxTensor


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


def input_tensor(tensor: OnnxInput, *, batched: bool) -> Tensor:
    """An input; `batched` where `max_batch_size` is above 0."""
    return replace(
        _tensor(tensor, batched=batched),
        allow_ragged_batch=tensor.allow_ragged_batch,
        format=tensor.format,
    )


def output_tensor(tensor: OnnxOutput, *, batched: bool) -> Tensor:
    """An output; its label file is named as it lies in the model's folder."""
    label = Path(tensor.label_filename).name if tensor.label_filename else ""
    return replace(_tensor(tensor, batched=batched), label_filename=label)


def label_files(model: str, outputs: Iterable[OnnxOutput], base: Path) -> dict[str, bytes]:
    """Label files by their name in the model's folder.

    Args:
        model: Its name, for errors.
        outputs: Its outputs.
        base: Folder of the spec file.

    Raises:
        SpecError: a file can't be read, or two have the same name.
    """
    files: dict[str, bytes] = {}
    for tensor in outputs:
        if tensor.label_filename:
            source = Source(f"{model}: label_filename of {tensor.name}", base)
            name, data = Path(tensor.label_filename).name, source.read(tensor.label_filename)
            if files.setdefault(name, data) != data:
                raise source.fail(f"two label files are called {name}; rename one")
    return files

"""The model config of a user's Python model."""

from pathlib import Path

from builder.render.model_config import ModelConfig
from builder.render.settings import with_settings
from builder.render.tensors import input_tensor, label_files, output_tensor
from builder.spec.python_model import ENVIRONMENT_PARAMETER, PythonSpec

ENVIRONMENT_NAME = "env.tar.gz"
"""The packed environment, in the version's folder, so that each version has its own."""


def model_config(spec: PythonSpec, version: str, base: Path) -> ModelConfig:
    """The config; the model's own files are not read.

    Args:
        spec: The spec.
        version: The version folder that an environment lies in.
        base: Folder of the spec file.

    Raises:
        SpecError: a setting does not fit the model's tensors, or a file can't be read.
    """
    model = spec.model.model_copy(update={"parameters": spec.parameters})
    batched = bool(model.max_batch_size)
    path = f"$$TRITON_MODEL_DIRECTORY/{version}/{ENVIRONMENT_NAME}"
    config = ModelConfig(
        backend="python",
        name=spec.name,
        max_batch_size=model.max_batch_size,
        inputs=tuple(input_tensor(tensor, batched=batched) for tensor in spec.inputs),
        outputs=tuple(output_tensor(tensor, batched=batched) for tensor in spec.outputs),
        decoupled=model.decoupled,
        parameters={ENVIRONMENT_PARAMETER: path} if spec.python.environment else {},
        files=label_files(spec.name, spec.outputs, base),
    )
    return with_settings(config, model, target=spec.target, release=spec.triton_release, base=base)

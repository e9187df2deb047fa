"""The model config of a user's Python model."""

from builder.render.model_config import ModelConfig, Tensor
from builder.render.settings import instances
from builder.spec.python_model import ENVIRONMENT_PARAMETER, PythonSpec, PythonTensor

ENVIRONMENT_NAME = "env.tar.gz"
"""The packed environment, in the version's folder, so that each version has its own."""


def _tensor(tensor: PythonTensor) -> Tensor:
    return Tensor(tensor.name, tensor.data_type, tuple(tensor.dims), optional=tensor.optional)


def model_config(spec: PythonSpec, version: str) -> ModelConfig:
    """The config; nothing but the spec is read.

    Args:
        spec: The spec.
        version: The version folder that an environment lies in.
    """
    model = spec.model
    parameters = dict(spec.parameters)
    if spec.python.environment:
        path = f"$$TRITON_MODEL_DIRECTORY/{version}/{ENVIRONMENT_NAME}"
        parameters[ENVIRONMENT_PARAMETER] = path
    return ModelConfig(
        kind="python",
        name=spec.name,
        max_batch_size=model.max_batch_size,
        inputs=tuple(_tensor(tensor) for tensor in spec.inputs),
        outputs=tuple(_tensor(tensor) for tensor in spec.outputs),
        instance_group=(instances(model.instances, spec.target),),
        dynamic_batching=model.dynamic_batching,
        decoupled=model.decoupled,
        parameters=parameters,
    )

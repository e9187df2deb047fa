"""The spec of a user's own Python model: their files are served as they are."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from builder.spec.batching import DynamicBatching, InstanceGroup, Strict
from builder.spec.ensemble import TRITON_RELEASE_PATTERN
from builder.spec.language import MODEL_NAME
from builder.spec.onnx_file import OnnxTensor
from builder.spec.releases import DEFAULT_RELEASE, TritonRelease

ENVIRONMENT_PARAMETER = "EXECUTION_ENV_PATH"
"""The parameter by which Triton's Python backend finds a packed environment."""


class PythonSource(Strict):
    """The source."""

    path: str = Field(
        min_length=1,
        description="A folder with a model.py, or one .py file that becomes it; relative to the "
        "spec file.",
    )
    requirements: str | None = Field(
        default=None,
        min_length=1,
        description="A requirements file of what it imports, relative to the spec file; its lines "
        "go into the repository's requirements.txt, or into the environment.",
    )
    environment: bool = Field(
        default=False,
        description="Pack the requirements into an environment that goes with the model "
        "(EXECUTION_ENV_PATH), so that the server needs none of them.",
    )
    python_version: str | None = Field(
        default=None,
        pattern=r"^3\.\d{1,2}$",
        description="Python of the server that the environment is packed for; null: that of the "
        "release's image. The local server's is the Python that the builder runs in.",
    )

    @model_validator(mode="after")
    def _an_environment_has_requirements(self) -> "PythonSource":
        if self.environment and self.requirements is None:
            raise ValueError("environment: true packs a requirements file; name it in requirements")
        if self.python_version and not self.environment:
            raise ValueError(
                "python_version is that of a packed environment; add environment: true"
            )
        return self


class PythonTensor(OnnxTensor):
    """An input or output that the model declares."""

    dims: list[Annotated[int, Field(ge=-1)]] = Field(
        description="-1 for a free dim; without the batch dim where max_batch_size is above 0."
    )
    optional: bool = Field(default=False, description="Inputs only: requests may leave it out.")

    @field_validator("data_type", mode="before")
    @classmethod
    def _is_triton_s_name(cls, value: Any) -> Any:
        """Say how Triton calls a type that was written as others do."""
        known = _OTHER_NAMES.get(value.lower()) if isinstance(value, str) else None
        if known is not None and known != value:
            raise ValueError(f"'{value}' is called {known} here")
        return value

    @model_validator(mode="after")
    def _has_dims(self) -> "PythonTensor":
        if not self.dims:
            raise ValueError(f"{self.name} has no dims; write [1] for a single value")
        return self


_TYPES = {
    "bool": "BOOL",
    **{f"{u}int{bits}": f"{u}int{bits}".upper() for u in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"fp{bits}": f"FP{bits}" for bits in (16, 32, 64)},
    "string": "STRING",
}
_OTHER_NAMES = {
    **_TYPES,
    **{f"type_{name}": known for name, known in _TYPES.items()},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
    **{"float": "FP32", "double": "FP64", "half": "FP16", "int": "INT64"},
    **{"str": "STRING", "bytes": "STRING", "object": "STRING", "boolean": "BOOL"},
}
"""How Triton's protocol, NumPy and Python call the types, in small letters."""


class PythonModel(Strict):
    """Batching and instances."""

    max_batch_size: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Most rows in one request's batch; 0: tensors have no batch dim."
    )
    dynamic_batching: DynamicBatching | None = Field(
        default=None, description="null: execute gets the requests one by one."
    )
    instances: InstanceGroup = Field(default_factory=InstanceGroup)
    decoupled: bool = Field(
        default=False, description="A request has any number of responses, sent as they come."
    )

    @model_validator(mode="after")
    def _batcher_has_a_batch_dim(self) -> "PythonModel":
        if self.dynamic_batching is None:
            return self
        if not self.max_batch_size:
            raise ValueError("dynamic_batching needs a max_batch_size above 0")
        for size in self.dynamic_batching.preferred_batch_size:
            if size > self.max_batch_size:
                raise ValueError(
                    f"preferred_batch_size {size} is larger than max_batch_size "
                    f"{self.max_batch_size}"
                )
        return self


class PythonSpec(Strict):
    """A user's Python model that becomes one model."""

    name: str = Field(pattern=MODEL_NAME, description="Name of the model.")
    python: PythonSource
    triton_release: TritonRelease = Field(
        default=DEFAULT_RELEASE,
        pattern=TRITON_RELEASE_PATTERN,
        description="Server release that the repository is built for.",
    )
    target: Literal["cpu", "gpu", "tensorrt"] = "cpu"
    model: PythonModel = Field(default_factory=PythonModel)
    inputs: list[PythonTensor] = Field(min_length=1)
    outputs: list[PythonTensor] = Field(min_length=1)
    parameters: dict[str, str] = Field(
        default_factory=dict,
        description="What initialize finds in model_config; Triton gives every value as a string.",
    )

    @field_validator("parameters", mode="before")
    @classmethod
    def _values_are_strings(cls, value: Any) -> Any:
        given = value.items() if isinstance(value, dict) else ()
        numbers = (bool, int, float)
        wrong = next(((key, one) for key, one in given if isinstance(one, numbers)), None)
        if wrong:
            text = str(wrong[1]).lower() if isinstance(wrong[1], bool) else str(wrong[1])
            raise ValueError(
                f'{wrong[0]}: Triton gives every parameter as a string; write "{text}" in quotes'
            )
        return value

    @model_validator(mode="after")
    def _tensors_make_sense(self) -> "PythonSpec":
        for side, tensors in (("inputs", self.inputs), ("outputs", self.outputs)):
            names = [tensor.name for tensor in tensors]
            doubled = [name for name in names if names.count(name) > 1]
            if doubled:
                raise ValueError(f"{side}: '{doubled[0]}' is listed twice")
        for tensor in self.outputs:
            if tensor.optional:
                raise ValueError(f"output {tensor.name} can't be optional; only inputs can")
        return self

    @model_validator(mode="after")
    def _one_environment(self) -> "PythonSpec":
        if self.python.environment and ENVIRONMENT_PARAMETER in self.parameters:
            raise ValueError(
                f"parameters: {ENVIRONMENT_PARAMETER} is what environment: true sets; "
                "remove one of them"
            )
        return self

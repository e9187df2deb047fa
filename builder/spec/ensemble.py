"""The spec of an ensemble over models of a repository: who gives what to whom, never a shape."""

from typing import Literal

from pydantic import Field, model_validator

from builder.spec.batching import Strict
from builder.spec.language import MODEL_NAME
from builder.spec.releases import DEFAULT_RELEASE, TritonRelease
from builder.spec.triton.model import EnsembleSettings

TRITON_RELEASE_PATTERN = r"^\d{2}\.\d{2}$"


class EnsembleStep(Strict):
    """One step: a model of the repository, and how its tensors are called in the ensemble."""

    model: str = Field(min_length=1, description="A model of the repository, or a member.")
    inputs: dict[str, str] = Field(
        alias="in", description="The model's input -> the ensemble's tensor that it gets."
    )
    outputs: dict[str, str] = Field(
        alias="out",
        min_length=1,
        description="The model's output -> the ensemble's tensor that it becomes; others are left "
        "out.",
    )

    @model_validator(mode="after")
    def _names_are_given(self) -> "EnsembleStep":
        for side, names in (("in", self.inputs), ("out", self.outputs)):
            if not all((*names, *names.values())):
                raise ValueError(f"{side}: a tensor has no name")
        doubled = [n for n in self.outputs.values() if list(self.outputs.values()).count(n) > 1]
        if doubled:
            raise ValueError(f"out: two outputs become '{doubled[0]}'; give each a name of its own")
        return self


class Ensemble(EnsembleSettings):
    """Steps that are wired by the names of tensors; types, dims and batching are inferred."""

    name: str = Field(pattern=MODEL_NAME, description="Name of the ensemble.")
    steps: list[EnsembleStep] = Field(min_length=1)
    outputs: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Tensors that clients get; null: those that no step takes.",
    )


class EnsembleSpec(Ensemble):
    """One ensemble over models that are in the repository already."""

    triton_release: TritonRelease = Field(
        default=DEFAULT_RELEASE,
        pattern=TRITON_RELEASE_PATTERN,
        description="Server release that the repository is built for.",
    )
    target: Literal["cpu", "gpu", "tensorrt"] = "cpu"

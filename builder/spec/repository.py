"""The spec of a repository: members of any kind, and ensembles over them."""

from typing import Any, Literal

from pydantic import Field, model_validator

from builder.spec.batching import Strict
from builder.spec.ensemble import TRITON_RELEASE_PATTERN, Ensemble
from builder.spec.language import MODEL_NAME
from builder.spec.releases import DEFAULT_RELEASE, TritonRelease


class RepositorySpec(Strict):
    """All that one server serves. Its release and target hold for every member."""

    name: str = Field(pattern=MODEL_NAME, description="Name of the repository, for people.")
    triton_release: TritonRelease = Field(
        default=DEFAULT_RELEASE,
        pattern=TRITON_RELEASE_PATTERN,
        description="Server release that every member is built for.",
    )
    target: Literal["cpu", "gpu", "tensorrt"] = "cpu"
    members: list[str | dict[str, Any]] = Field(
        min_length=1,
        description="Spec files of any kind but this one, relative to this file, or such specs "
        "written out here.",
    )
    ensembles: list[Ensemble] = Field(default_factory=list)

    @model_validator(mode="after")
    def _each_is_named_once(self) -> "RepositorySpec":
        files = [member for member in self.members if isinstance(member, str)]
        inline = [str(member.get("name")) for member in self.members if isinstance(member, dict)]
        for names in (files, [*inline, *(ensemble.name for ensemble in self.ensembles)]):
            doubled = [name for name in names if names.count(name) > 1]
            if doubled:
                raise ValueError(f"'{doubled[0]}' is listed twice")
        return self

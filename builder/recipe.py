"""What a recipe says of the member that it makes, so that one build serves every kind of spec."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from builder.cache.store import Store
from builder.progress import Progress
from builder.render.model_config import ModelConfig
from builder.verify.measure import ParityRow

VERSION: Final = "1"
"""Recipes write every model as this version; the build moves it to the one asked for."""


@dataclass(frozen=True)
class Made:
    """An artifact that stands in its folder.

    Attributes:
        rows: Its parity with the source model.
        outcome: The candidates that were measured for it, and the choice; empty: there was none.
        notes: What the user should know of it, a sentence each.
    """

    rows: list[ParityRow]
    outcome: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Workshop:
    """What artifacts are made with.

    Attributes:
        progress: Told about each step.
        store: The cache of artifacts; None: everything is made anew.
    """

    progress: Progress
    store: Store | None = None


class Artifact(Protocol):
    """What a model serves: made from the source model and compared with it."""

    @property
    def model(self) -> str:
        """Name of its model in the repository."""

    def take(self, folder: Path) -> Made | None:
        """Take it out of the cache into the model's version folder; None: it must be made."""

    def make(self, folder: Path) -> Made:
        """Export, optimize and verify it into the model's version folder.

        Raises:
            BuilderError: it can't be made, or does not run.
        """

    def finish(self, folder: Path) -> None:
        """What is left to do once every artifact of the build is within its tolerance."""


class MemberSpec(Protocol):
    """What every kind of spec has."""

    @property
    def name(self) -> str:
        """The member's name."""

    @property
    def triton_release(self) -> str:
        """The server release that it is built for, YY.MM."""

    @property
    def target(self) -> str:
        """`cpu`, `gpu` or `tensorrt`."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """The whole spec, defaults included."""


class Recipe(Protocol):
    """A member of a repository: its models, and how they are made. Made without reading weights."""

    @property
    def spec(self) -> MemberSpec:
        """What it was made for."""

    @property
    def loads(self) -> bool:
        """Whether weights must be loaded before an artifact is made."""

    def configs(self) -> list[ModelConfig]:
        """Every model config, in the order in which a request meets them, an ensemble last."""

    def stages(self) -> Mapping[str, str]:
        """Python model of ours -> folder of its sources in `builder/runtime/models`."""

    def requirements(self) -> list[str]:
        """What its Python models import."""

    def write_files(self, folder: Path) -> None:
        """Write tokenizers and the like into a repository that has its model folders."""

    def artifacts(self, models: Collection[str], workshop: Workshop) -> list[Artifact]:
        """The artifacts of the models named; no weights are read before one is made."""

    def hashes(self) -> dict[str, str]:
        """Source file -> sha256, or `commit` of a checkpoint on the hub."""

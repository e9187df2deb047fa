"""The recipe of a user's Python model: its files are checked and copied, never run."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from builder.publish.manifest import sha256
from builder.python_models.config import ENVIRONMENT_NAME, model_config
from builder.python_models.environment import Environment, python_of
from builder.python_models.source import PythonFiles, open_source, requirement_lines
from builder.recipe import VERSION, Artifact, Made, Workshop
from builder.render.model_config import ModelConfig
from builder.spec.python_model import PythonSpec

NUMPY = "numpy>=1.26,<2"
"""What Triton's Python backend itself imports; its stub of 24.10 dies on strings with NumPy 2."""


class PythonRecipe:
    """One Python model of the user's."""

    loads = False

    def __init__(self, spec: PythonSpec, base: Path) -> None:
        """Prepare.

        Args:
            spec: The spec.
            base: Folder that its paths are relative to.
        """
        self.spec = spec
        self._base = base
        self._path = base / spec.python.path
        self._requirements = base / spec.python.requirements if spec.python.requirements else None

    def configs(self) -> list[ModelConfig]:
        """The model's config."""
        return [model_config(self.spec, VERSION, self._base)]

    def stages(self) -> Mapping[str, str]:
        """None: the sources are the user's."""
        return {}

    def requirements(self) -> list[str]:
        """NumPy and what the user's file names; an environment has its own."""
        lines = [] if self.spec.python.environment else self._lines
        return sorted({NUMPY, *lines})

    def write_files(self, folder: Path) -> None:
        """Check the user's files and copy them.

        Raises:
            CheckpointError: they can't be served.
        """
        self.source.check()
        self.source.copy(folder / self.spec.name / VERSION)

    def artifacts(self, models: Collection[str], workshop: Workshop) -> list[Artifact]:
        """The environment; the files are there already."""
        return [_Packed(self.spec.name, self, workshop)] if self.spec.name in models else []

    def hashes(self) -> dict[str, str]:
        """The files, and the requirements."""
        found = self.source.hashes()
        if self._requirements is not None:
            found[str(self.spec.python.requirements)] = sha256(self._requirements)
        return found

    @cached_property
    def source(self) -> PythonFiles:
        """The user's files."""
        return open_source(self._path, environment=self.spec.python.environment)

    @cached_property
    def _lines(self) -> list[str]:
        return requirement_lines(self._requirements) if self._requirements else []

    @cached_property
    def environment(self) -> Environment | None:
        """What is packed; None: the server has what it imports."""
        source = self.spec.python
        if not source.environment:
            return None
        release = f"Triton {self.spec.triton_release}"
        return Environment(
            self.spec.name,
            python_of(self.spec),
            _with_numpy(self._lines),
            "python_version" if source.python_version else f"that of {release}'s image",
        )

    def notes(self) -> list[str]:
        """What the user should know."""
        path = self.spec.python.path.rstrip("/")
        return [
            f"{self.spec.name}: left out {path}/{name} ({why_not})"
            for name, why_not in self.source.left_out.items()
        ]


def _with_numpy(lines: list[str]) -> list[str]:
    """The requirements, with the backend's own NumPy where they name none."""
    names = {canonicalize_name(Requirement(line).name) for line in lines}
    return lines if "numpy" in names else [*lines, NUMPY]


@dataclass(frozen=True)
class _Packed:
    """What goes with the files: the environment, where one is asked for."""

    model: str
    recipe: PythonRecipe
    workshop: Workshop

    def take(self, folder: Path) -> Made | None:
        """Nothing to make, or made before; there is nothing to compare either with."""
        environment, store = self.recipe.environment, self.workshop.store
        if environment is None:
            return Made([], notes=self.recipe.notes())
        if store is None or store.take(environment.key, folder) is None:
            return None
        return Made([], notes=self.recipe.notes())

    def make(self, folder: Path) -> Made:
        """Install and pack.

        Raises:
            BuilderError: this machine lacks the Python, or pip can't install what is asked for.
        """
        environment, archive = self.recipe.environment, folder / ENVIRONMENT_NAME
        if environment is not None:
            environment.pack(archive, self.workshop.progress.step)
            if self.workshop.store is not None:
                self.workshop.store.put(environment.key, [archive], {})
        return Made([], notes=self.recipe.notes())

    def finish(self, folder: Path) -> None:
        """Nothing."""

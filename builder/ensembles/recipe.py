"""The recipe of an ensemble that a user wires."""

from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path

from builder.ensembles.neighbours import Neighbours
from builder.ensembles.wiring import Wiring
from builder.recipe import Artifact, Workshop
from builder.render.model_config import ModelConfig
from builder.render.settings import with_settings
from builder.spec.ensemble import EnsembleSpec


class EnsembleRecipe:
    """One ensemble; it has no files but its config."""

    loads = False

    def __init__(self, spec: EnsembleSpec, neighbours: Neighbours) -> None:
        """Prepare.

        Args:
            spec: The spec.
            neighbours: The models that its steps may name.
        """
        self.spec = spec
        self._neighbours = neighbours

    @cached_property
    def _config(self) -> ModelConfig:
        name = self.spec.name
        models = {step.model: self._neighbours.known(step.model, name) for step in self.spec.steps}
        return with_settings(
            Wiring(self.spec, models).config(),
            self.spec,
            target=self.spec.target,
            release=self.spec.triton_release,
            base=Path(),
        )

    def configs(self) -> list[ModelConfig]:
        """The ensemble."""
        return [self._config]

    def stages(self) -> Mapping[str, str]:
        """None."""
        return {}

    def requirements(self) -> list[str]:
        """None."""
        return []

    def write_files(self, folder: Path) -> None:
        """Nothing."""

    def artifacts(self, models: Collection[str], workshop: Workshop) -> list[Artifact]:
        """None."""
        return []

    def hashes(self) -> dict[str, str]:
        """None."""
        return {}

"""The models that an ensemble's steps may name: of the same build, else of the repository."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from builder.ensembles.wiring import Known
from builder.errors import BuilderError, SpecError
from builder.inspect.repository import ModelInfo, TensorInfo, read_repository
from builder.recipe import Recipe
from builder.render.model_config import Tensor


class Neighbours:
    """Looks models up by name."""

    def __init__(self, recipes: Sequence[Recipe], repository: Path, release: str) -> None:
        """Prepare.

        Args:
            recipes: Members of the same build; more may be added while they are made.
            repository: What is built into.
            release: Triton release that it is read for.
        """
        self._recipes = recipes
        self._repository = repository
        self._release = release
        self._asked: list[str] = []

    @cached_property
    def _there(self) -> dict[str, ModelInfo]:
        try:
            found = read_repository(self._repository, self._release)
        except BuilderError:  # nothing was built yet
            return {}
        return {info.name: info for info in found}

    def known(self, name: str, asker: str) -> Known:
        """What is known of a model.

        Args:
            name: The model.
            asker: The ensemble that has it as a step.

        Raises:
            SpecError: there is none, or two ensembles are steps of each other.
        """
        if asker in self._asked:
            circle = " -> ".join([*self._asked[self._asked.index(asker) :], asker])
            raise SpecError(f"ensembles are steps of each other in a circle: {circle}")
        self._asked.append(asker)
        try:
            return self._known(name, asker)
        finally:
            self._asked.pop()

    def _known(self, name: str, asker: str) -> Known:
        names: list[str] = []
        for recipe in self._recipes:
            # An ensemble's own config asks for others: only the one that is named is made.
            if recipe.stages() or recipe.spec.name == name or recipe.loads:
                for config in recipe.configs():
                    if config.name == name:
                        return Known.of(config)
                    names.append(config.name)
            else:
                names.append(recipe.spec.name)
        info = self._there.get(name)
        if info is None:
            there = sorted({*names, *self._there} - {asker})
            raise SpecError(
                f"ensemble {asker}: there is no model '{name}'; there are {', '.join(there)}"
            )
        return Known(info.max_batch_size, _by_name(info.inputs), _by_name(info.outputs))


def _by_name(tensors: Sequence[TensorInfo]) -> dict[str, Tensor]:
    return {t.name: Tensor(t.name, t.data_type, t.dims, t.optional) for t in tensors}

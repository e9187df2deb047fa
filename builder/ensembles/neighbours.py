"""The models that an ensemble's steps may name: of the same build, else of the repository."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
                configs = recipe.configs()
                for config in configs:
                    if config.name == name:
                        inputs = {c.name: {t.name: t for t in c.inputs} for c in configs}
                        steps = [(s.model_name, s.input_map) for s in config.steps]
                        known = Known.of(config)
                        return replace(known, inputs=_needed(known.inputs, steps, inputs))
                    names.append(config.name)
            else:
                names.append(recipe.spec.name)
        info = self._there.get(name)
        if info is None:
            there = sorted({*names, *self._there} - {asker})
            raise SpecError(
                f"ensemble {asker}: there is no model '{name}'; there are {', '.join(there)}"
            )
        maps = [(step.model, step.input_map) for step in info.steps]
        inputs = {name: _by_name(other.inputs) for name, other in self._there.items()}
        needed = _needed(_by_name(info.inputs), maps, inputs)
        return Known(info.max_batch_size, needed, _by_name(info.outputs))


def _needed(
    own: Mapping[str, Tensor],
    steps: Sequence[tuple[str, Mapping[str, str]]],
    inputs: Mapping[str, Mapping[str, Tensor]],
) -> dict[str, Tensor]:
    """A model's inputs, required where a step of it requires them.

    An ensemble's config says that all are optional where one is (`render.inputs`).

    Args:
        own: The inputs that its config has.
        steps: Model and input map of each step; none where it is no ensemble.
        inputs: Model -> its inputs.
    """
    required = {
        outer
        for model, names in steps
        for inner, outer in names.items()
        if inner in inputs.get(model, {}) and not inputs[model][inner].optional
    }
    return {n: replace(t, optional=t.optional and n not in required) for n, t in own.items()}


def _by_name(tensors: Sequence[TensorInfo]) -> dict[str, Tensor]:
    return {t.name: Tensor(t.name, t.data_type, t.dims, t.optional) for t in tensors}

"""The only table from a kind of spec to the recipe that makes it."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from builder.arr_coc.recipe import ArrCocRecipe
from builder.ensembles.neighbours import Neighbours
from builder.ensembles.recipe import EnsembleRecipe
from builder.onnx_models.recipe import OnnxRecipe
from builder.publish.manifest import MANIFEST_NAME, read_manifest
from builder.python_models.recipe import PythonRecipe
from builder.recipe import VERSION, Recipe
from builder.render.model_config import ModelConfig
from builder.render.models import write_models, write_requirements
from builder.spec.ensemble import EnsembleSpec
from builder.spec.load import AnySpec, members_of
from builder.spec.models import Spec
from builder.spec.onnx_file import OnnxSpec
from builder.spec.python_model import PythonSpec
from builder.spec.repository import RepositorySpec
from builder.spec.task import TaskSpec
from builder.tasks.recipe import TaskRecipe

RECIPES: Final[dict[type[Any], Callable[[Any, Path], Recipe]]] = {
    Spec: ArrCocRecipe,
    TaskSpec: TaskRecipe,
    OnnxSpec: OnnxRecipe,
    PythonSpec: PythonRecipe,
}
"""Spec type -> its recipe, from the spec and the folder that its paths are relative to."""


def recipes_of(spec: AnySpec, spec_path: Path, target: Path) -> list[tuple[Recipe, str]]:
    """The recipe of every member that a spec names.

    Args:
        spec: The spec.
        spec_path: Its file.
        target: The repository that is built into.

    Returns:
        Each recipe, and the name of the spec file that it came from.

    Raises:
        SpecError: a member can't be read.
    """
    if isinstance(spec, RepositorySpec):
        members = members_of(spec, spec_path)
    else:
        members = [(spec, spec_path)]
    recipes: list[Recipe] = []
    neighbours = Neighbours(recipes, target, spec.triton_release)
    for member, path in members:
        if isinstance(member, EnsembleSpec):
            recipes.append(EnsembleRecipe(member, neighbours))
        else:
            recipes.append(RECIPES[type(member)](member, path.resolve().parent))
    return [(recipe, path.name) for recipe, (_, path) in zip(recipes, members, strict=True)]


def render_to(spec: AnySpec, spec_path: Path, folder: Path, target: Path) -> list[ModelConfig]:
    """Write everything but weights and tokenizers.

    Args:
        spec: The spec.
        spec_path: Its file.
        folder: Where it goes.
        target: The repository, whose other members have requirements of their own.

    Returns:
        The model configs, the ensemble last.
    """
    found = []
    recipes = recipes_of(spec, spec_path, target)
    for recipe, origin in recipes:
        configs = recipe.configs()
        write_models(configs, recipe.stages(), origin, folder, VERSION)
        found += configs
    lines = [line for recipe, _ in recipes for line in recipe.requirements()]
    names = {recipe.spec.name for recipe, _ in recipes}
    others = read_manifest(target).members.items()
    lines += [line for name, member in others if name not in names for line in member.requirements]
    write_requirements(lines, folder)
    return found


def drift_of(spec: AnySpec, spec_path: Path, target: Path) -> list[str]:
    """Files of a repository that differ from what the spec renders today, as relative paths."""
    with TemporaryDirectory() as scratch:
        render_to(spec, spec_path, Path(scratch), target)
        return _drift(Path(scratch), target)


def _drift(scratch: Path, target: Path) -> list[str]:
    """Files of `scratch` that `target` lacks or has with other bytes, as relative paths.

    Of a repository that was not built, which has configs alone, only those are compared.
    """
    built = (target / MANIFEST_NAME).is_file()
    changed = []
    for path in sorted(scratch.rglob("*")):
        other = target / path.relative_to(scratch)
        if not path.is_file() or not (built or path.name == "config.pbtxt"):
            continue
        if not other.is_file() or other.read_bytes() != path.read_bytes():
            changed.append(str(path.relative_to(scratch)))
    return changed

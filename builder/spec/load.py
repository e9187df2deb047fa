"""Reading a spec file: every error names its line and, where it can, the mend."""

import difflib
import types
import typing
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from builder.errors import SpecError
from builder.spec.ensemble import EnsembleSpec
from builder.spec.models import Spec
from builder.spec.onnx_file import OnnxSpec
from builder.spec.python_model import PythonSpec
from builder.spec.repository import RepositorySpec
from builder.spec.task import TaskSpec

_MAX_BYTES = 1_000_000

MemberSpec = Spec | TaskSpec | OnnxSpec | PythonSpec | EnsembleSpec
"""A member of a repository."""
AnySpec = MemberSpec | RepositorySpec
"""What a spec file may hold."""

KINDS: Final[dict[str, type[BaseModel]]] = {
    "members": RepositorySpec,
    "task": TaskSpec,
    "onnx": OnnxSpec,
    "python": PythonSpec,
    "steps": EnsembleSpec,
}
"""Key -> the type of the specs that have it; without any, an arr-coc pipeline."""

_Kind = TypeVar("_Kind", bound=BaseModel)


def _read(path: Path) -> Any:
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise SpecError(f"{path}: no such spec file") from error
    except OSError as error:
        raise SpecError(f"{path}: can't be read: {error.strerror}") from error
    if len(text) > _MAX_BYTES:
        raise SpecError(f"{path}: {len(text)} bytes is too large for a spec file")
    try:
        return YAML(typ="rt").load(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is not UTF-8 text") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise SpecError(
            f"{path}{line}: not valid YAML: {error.problem or error.context}"
        ) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"{path}: not valid YAML: {error}") from error


def _line(document: Any, location: tuple[int | str, ...]) -> int | None:
    """Line (from 1) of the deepest part of a location that stands in the document."""
    line: int | None = None
    node = document
    for key in location:
        position = getattr(node, "lc", None)
        if position is None:
            break
        try:
            found = position.key(key) if isinstance(node, dict) else position.item(key)
            line, node = found[0] + 1, node[key]
        except (KeyError, IndexError, TypeError, AttributeError):
            break
    return line


def _parts(annotation: Any) -> list[Any]:
    """What a value of a type may be, without None and notes."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return [part for one in typing.get_args(annotation) for part in _parts(one)]
    if origin is typing.Annotated:
        return _parts(typing.get_args(annotation)[0])
    return [annotation]


def _models(annotation: Any) -> list[type[BaseModel]]:
    parts = _parts(annotation)
    return [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]


def _keys(model: type[BaseModel]) -> dict[str, Any]:
    """Key in a spec file -> type of its value."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _below(annotation: Any, key: int | str) -> Any:
    """The type at a key of a value: a field, or what a list or a mapping holds; None: unknown."""
    for model in _models(annotation):
        if key in _keys(model):
            return _keys(model)[str(key)]
    for part in _parts(annotation):
        if typing.get_origin(part) in (list, dict):
            return typing.get_args(part)[-1]
    return None


def _model_at(root: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The spec type that a location lies in."""
    annotation: Any = root
    for key in location:
        annotation = _below(annotation, key)
    return next(iter(_models(annotation)), None)


def _sentence(path: Path, document: Any, root: type[BaseModel], error: Any) -> str:
    location = error["loc"]
    line = _line(document, location)
    where = f"{path}:{line}" if line else str(path)
    name = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        model = _model_at(root, location[:-1])
        known = list(_keys(model)) if model else []
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"
        return f"{where}: unknown key '{name}'; {hint}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{where}: '{name}' is missing"
    return f"{where}: {name}: {message}" if name else f"{where}: {message}"


def _document(path: Path) -> dict[str, Any]:
    document = _read(path)
    if not isinstance(document, dict):
        raise SpecError(f"{path}: a spec is a mapping of keys to values, starting with 'name:'")
    return document


def _check(path: Path, document: dict[str, Any], root: type[_Kind]) -> _Kind:
    try:
        return root.model_validate(document)
    except ValidationError as error:
        lines = [_sentence(path, document, root, problem) for problem in error.errors()]
        raise SpecError("\n".join(lines)) from error


def load_spec(path: Path) -> Spec:
    """Read and check the spec file of an arr-coc pipeline.

    Raises:
        SpecError: one line for every problem, each with its place in the file.
    """
    return _check(path, _document(path), Spec)


def _kind_of(document: dict[str, Any]) -> type[BaseModel]:
    """The type of a spec, told by a key that no other kind has."""
    return next((kind for key, kind in KINDS.items() if key in document), Spec)


def load_any_spec(path: Path) -> AnySpec:
    """Read and check a spec file of any kind; the keys of `KINDS` tell them apart.

    Raises:
        SpecError: one line for every problem, each with its place in the file.
    """
    document = _document(path)
    kind = _kind_of(document)
    if kind is RepositorySpec:
        for member in document["members"] if isinstance(document["members"], list) else ():
            if isinstance(member, dict):  # here, where lines are known
                _check(path, member, _kind_of(member))
    return cast(AnySpec, _check(path, document, kind))


def members_of(spec: RepositorySpec, path: Path) -> list[tuple[MemberSpec, Path]]:
    """The members of a repository, with its release and target.

    Args:
        spec: The repository.
        path: Its file.

    Returns:
        Each member's spec, and the file that it stands in.

    Raises:
        SpecError: a member can't be read, can't be built for the target, or is listed twice.
    """
    found: list[tuple[MemberSpec, Path]] = []
    shared = {"triton_release": spec.triton_release, "target": spec.target}
    for member in spec.members:
        file = path.parent / member if isinstance(member, str) else path
        loaded = (
            load_any_spec(file)
            if isinstance(member, str)
            else _check(path, member, _kind_of(member))
        )
        if isinstance(loaded, RepositorySpec):
            raise SpecError(f"{path}: {loaded.name} is a repository itself; list its members here")
        found.append((with_values(cast(MemberSpec, loaded), **shared), file))
    found += [
        (EnsembleSpec.model_validate({**_values(ensemble), **shared}), path)
        for ensemble in spec.ensembles
    ]
    names = [member.name for member, _ in found]
    doubled = [name for name in names if names.count(name) > 1]
    if doubled:
        raise SpecError(f"{path}: two members are named '{doubled[0]}'; names must differ")
    return found


def _values(spec: BaseModel) -> dict[str, Any]:
    """What was written into a spec."""
    return spec.model_dump(exclude_unset=True, by_alias=True)


def with_values(spec: Any, **values: Any) -> Any:
    """A spec with other values at its top level, checked anew.

    Raises:
        SpecError: it can't have them.
    """
    try:
        return type(spec).model_validate({**_values(spec), **values})
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        raise SpecError(f"{spec.name}: {f'{where}: ' if where else ''}{message}") from error

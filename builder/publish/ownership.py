"""Whose a model folder is, so that a build touches nothing of another member or a person."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from builder.errors import PublishError
from builder.publish.manifest import Manifest
from builder.publish.staging import copy_entry

_CACHES = {"__pycache__"}
"""Folders that a server's Python writes beside the sources."""


def _files(folder: Path, root: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(root)
        if (path.is_file() or path.is_symlink()) and not _CACHES.intersection(relative.parts):
            yield str(relative)


def foreign_files(repository: Path, manifest: Manifest, models: Iterable[str]) -> list[str]:
    """Files in model folders that the builder did not write, as paths in the repository."""
    return [
        path
        for model in models
        for path in _files(repository / model, repository)
        if path not in manifest.files
    ]


def refuse_clashes(
    repository: Path, manifest: Manifest, member: str, models: Iterable[str], staged: Path
) -> None:
    """Refuse to write over a model of another member, or of a person.

    A folder that no manifest names is taken for the builder's where the build writes every file
    of it anew: configs that git keeps, for instance.

    Args:
        repository: The folder that is built into.
        manifest: Its manifest.
        member: Who writes.
        models: Names of its models.
        staged: Where they are written.

    Raises:
        PublishError: names both owners.
    """
    owners = manifest.owners
    for model in models:
        owner = owners.get(model)
        if owner is not None and owner != member:
            raise PublishError(
                f"model '{model}' of {member} is in {repository} already, where it belongs to "
                f"{owner}; give one of them another name, or: builder remove {owner} {repository}"
            )
        if owner is None and (repository / model).exists():
            kept = [p for p in _files(repository / model, repository) if not (staged / p).exists()]
            if kept or not (repository / model).is_dir():
                raise PublishError(
                    f"{repository / model} was not made by the builder (it has "
                    f"{kept[0] if kept else 'no folder'}); give the model of {member} another "
                    "name, or move that away"
                )


def keep_foreign_files(
    repository: Path, manifest: Manifest, models: Iterable[str], staged: Path
) -> list[str]:
    """Copy what a person put into a member's own model folders.

    Returns:
        Paths in the repository.

    Raises:
        PublishError: the build writes a file of that name, or no such model any more.
    """
    found = foreign_files(repository, manifest, models)
    for path in found:
        place = staged / path
        if place.exists():
            raise PublishError(
                f"{repository / path} was not made by the builder, which writes a file of that "
                "name; move it away"
            )
        if not (staged / path.split("/", 1)[0]).is_dir():
            raise PublishError(
                f"{repository / path} was not made by the builder, and its model goes; move it away"
            )
        place.parent.mkdir(parents=True, exist_ok=True)
        copy_entry(repository / path, place)
    return found

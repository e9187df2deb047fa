"""The files of a user's Python model: found, checked without running them, copied."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from builder.errors import CheckpointError
from builder.publish.manifest import sha256
from builder.python_models.config import ENVIRONMENT_NAME
from builder.validate.python_source import CLASS, PythonReadError, read_python

MODEL_NAME = "model.py"

_LEFT_OUT = {
    "__pycache__": "compiled sources",
    ".git": "history",
    "config.pbtxt": "the builder writes it from the spec",
}


@dataclass(frozen=True)
class PythonFiles:
    """The files of a model.

    Attributes:
        path: What the spec names: a folder, or one file.
        files: Place in the version folder -> the file.
        left_out: Path below the folder -> why it does not go with the model.
    """

    path: Path
    files: dict[str, Path]
    left_out: dict[str, str]

    def hashes(self) -> dict[str, str]:
        """Place in the version folder -> sha256."""
        return {name: sha256(path) for name, path in self.files.items()}

    def check(self) -> None:
        """Refuse what Triton would not load, as far as reading tells; nothing is run.

        A class that comes from an import, or has a base class, may have what is not seen here.

        Raises:
            CheckpointError: a file is no Python, or there is no class with `execute`.
        """
        for name, path in self.files.items():
            if path.suffix != ".py":
                continue
            try:
                found = read_python(path.read_bytes())
            except PythonReadError as error:
                python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
                raise CheckpointError(
                    f"{path}:{error.line}: is no {python}: {error.message}"
                ) from error
            except OSError as error:
                raise CheckpointError(f"{path}: can't be read: {error.strerror}") from error
            if name != MODEL_NAME:
                continue
            if not found.line and not found.imported:
                raise CheckpointError(
                    f"{path}: has no class {CLASS}, which Triton looks for; call the model's "
                    "class that"
                )
            if found.line and "execute" not in found.methods and not found.inherits:
                raise CheckpointError(
                    f"{path}:{found.line}: {CLASS} has no method execute; define "
                    "execute(self, requests), which returns the responses"
                )

    def copy(self, folder: Path) -> None:
        """Copy the files into a version folder, byte for byte.

        Raises:
            CheckpointError: that folder lies among them.
        """
        if self.path.is_dir() and folder.resolve().is_relative_to(self.path.resolve()):
            raise CheckpointError(
                f"{self.path}: the repository would be written into it, and so become a part of "
                "the model; give another --output, or move the model's files to a folder of "
                "their own"
            )
        for name, path in self.files.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copy2(path, place)
            except PermissionError as error:
                raise CheckpointError(f"{path}: can't be read: {error.strerror}") from error


def open_source(path: Path, *, environment: bool) -> PythonFiles:
    """Find the files of a model.

    Args:
        path: A folder with a model.py, or one .py file.
        environment: Whether the builder puts an environment beside them.

    Raises:
        CheckpointError: there is none, or a file has a name that the builder needs.
    """
    if path.is_file():
        if path.suffix != ".py":
            raise CheckpointError(f"{path}: is no .py file; give that, or a folder with model.py")
        return PythonFiles(path, {MODEL_NAME: path}, {})
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such folder or file; python: path names the model's")
    files, left_out = {}, {}
    for name, file, why_not in _walk(path, path):
        if why_not:
            left_out[name] = why_not
        else:
            files[name] = file
    if MODEL_NAME not in files:
        nested = next((n for n in files if n.endswith(f"/{MODEL_NAME}")), None)
        hint = f"; write {path / Path(nested).parent}" if nested else ""
        raise CheckpointError(f"{path}: has no {MODEL_NAME}, which Triton loads{hint}")
    if environment and ENVIRONMENT_NAME in files:
        raise CheckpointError(
            f"{path / ENVIRONMENT_NAME}: the builder writes a file of that name; rename it"
        )
    return PythonFiles(path, dict(sorted(files.items())), left_out)


def _walk(folder: Path, root: Path) -> Iterator[tuple[str, Path, str]]:
    """Path below the root, the file, and why it is left out ("": it is not)."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise CheckpointError(f"{folder}: can't be read: {error.strerror}") from error
    for entry in entries:
        name = entry.relative_to(root).as_posix()
        why_not = _LEFT_OUT.get(entry.name, "")
        if why_not or entry.suffix == ".pyc":
            yield name, entry, why_not or _LEFT_OUT["__pycache__"]
        elif entry.is_symlink() and not entry.resolve().is_relative_to(root.resolve()):
            yield name, entry, "a link to what lies outside"
        elif entry.is_symlink() and not entry.is_file():
            yield name, entry, "a link to a folder, or to nothing"
        elif entry.is_dir():
            yield from _walk(entry, root)
        else:
            yield name, entry, "" if entry.is_file() else "no plain file"


def requirement_lines(path: Path) -> list[str]:
    """The requirements of a file, without comments.

    Options of pip would hold for every member of a repository, and paths lead nowhere from
    there, so neither is taken.

    Raises:
        CheckpointError: the file can't be read, or a line is no requirement.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such requirements file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: can't be read as UTF-8 text: {error}") from error
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        wanted = line.split(" #")[0].strip()
        if not wanted or wanted.startswith("#"):
            continue
        if wanted.startswith("-"):
            raise CheckpointError(
                f"{path}:{number}: {wanted.split()[0]} is an option of pip; write requirements "
                "alone, and options into pip's own configuration"
            )
        try:
            Requirement(wanted)
        except InvalidRequirement as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(
                f"{path}:{number}: '{wanted}' is no requirement (NAME==VERSION): {reason}"
            ) from error
        found.append(wanted)
    return found

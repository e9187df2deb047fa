"""A model repository on disk, read without leaving it.

Nothing is followed out of the tree, nothing but regular files is opened, nothing is read past a
limit, and no folder below a version folder is listed, so a hostile repository costs no more than
an honest one.
"""

import os
import stat
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from builder.errors import BuilderError
from builder.validate.plan import read_json

CONFIG_NAME = "config.pbtxt"
CONFIG_LIMIT = 4 << 20
"""Bytes of the largest config that is read."""
SOURCE_LIMIT = 8 << 20
"""Bytes of the largest `model.py` that is read."""
MANIFEST_LIMIT = 64 << 20
"""Bytes of the largest `manifest.json` that is read."""
FOLDER_LIMIT = 10_000
"""Most entries of one folder that are looked at."""


class UnreadableError(Exception):
    """A file cannot be read; the message says why, without the path."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a folder. A link counts as what it points to."""

    name: str
    path: Path
    is_dir: bool
    is_file: bool
    size: int
    broken: bool = False
    """A link to nothing, or an entry that cannot be looked at."""
    outside: bool = False
    """A link that leaves the repository; neither folder nor file to us."""
    circular: bool = False
    """A link to a folder that it lies in."""


@dataclass(slots=True)
class Folder:
    """The entries of a folder by name."""

    path: Path
    entries: dict[str, Entry] = field(default_factory=dict)
    truncated: bool = False
    error: str = ""

    @property
    def subdirs(self) -> list[str]:
        """Names of the folders inside, sorted as Triton's `std::set<std::string>` sorts."""
        return sorted(entry.name for entry in self.entries.values() if entry.is_dir)


class Repository:
    """A folder of models.

    Raises `BuilderError` where `root` is no folder of models.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise BuilderError(
                f"{root} is not a folder; give the model repository, the folder of the models"
            )
        self.root = root
        self._real = os.path.realpath(root)
        if (root / CONFIG_NAME).is_file():
            raise BuilderError(
                f"{root} holds a {CONFIG_NAME}, so it is one model; "
                f"give the folder above it, {root.resolve().parent}"
            )
        self._folders: dict[Path, Folder] = {}
        self._known_inside: dict[Path, bool] = {}

    @cached_property
    def build_manifest(self) -> dict[str, Any]:
        """The `manifest.json` of `builder build`; empty where there is none."""
        try:
            return read_json(self.read(self.root / "manifest.json", MANIFEST_LIMIT))
        except UnreadableError:
            return {}

    def relative(self, path: Path) -> str:
        """`path` as shown in findings: relative to the repository, with `/`."""
        return path.relative_to(self.root).as_posix()

    def folder(self, path: Path) -> Folder:
        """The entries of a folder inside the repository; empty, with `error`, if unreadable."""
        if path not in self._folders:
            self._folders[path] = self._list(path)
        return self._folders[path]

    def read(self, path: Path, limit: int) -> bytes:
        """The bytes of a regular file inside the repository.

        Raises `UnreadableError` for anything else and for a file over `limit` bytes.
        """
        if not self._inside(path):
            raise UnreadableError("it is a link out of the repository")
        try:
            # Without O_NONBLOCK opening a pipe would wait for its other end for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            raise UnreadableError(_words(error)) from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableError("it is no regular file")
            if status.st_size > limit:
                raise UnreadableError(f"it has {status.st_size} bytes, over the limit of {limit}")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(limit)
        except OSError as error:
            raise UnreadableError(_words(error)) from None
        finally:
            os.close(descriptor)

    def check_regular(self, path: Path) -> int:
        """The bytes of a regular file inside the repository.

        Raises `UnreadableError` where `path` is anything else.
        """
        if not self._inside(path):
            raise UnreadableError("it is a link out of the repository")
        try:
            status = path.stat()
        except (OSError, ValueError) as error:
            raise UnreadableError(_words(error)) from None
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError("it is no regular file")
        return status.st_size

    def exists(self, path: Path) -> bool:
        """Whether `path` is there, inside the repository."""
        try:
            return self._inside(path) and path.exists()
        except (OSError, ValueError):  # a name too long, or with a NUL
            return False

    def _list(self, path: Path) -> Folder:
        folder = Folder(path)
        if not self._inside(path):
            folder.error = "it is a link out of the repository"
            return folder
        try:
            with os.scandir(path) as found:
                for number, entry in enumerate(found):
                    if number >= FOLDER_LIMIT:
                        folder.truncated = True
                        break
                    folder.entries[entry.name] = self._entry(entry)
        except OSError as error:
            folder.error = _words(error)
        return folder

    def _entry(self, entry: "os.DirEntry[str]") -> Entry:
        path = Path(entry.path)
        try:
            if entry.is_symlink() and not self._inside(path):
                return Entry(entry.name, path, False, False, 0, outside=True)
            is_dir = entry.is_dir()
            status = entry.stat()
        except OSError:
            return Entry(entry.name, path, False, False, 0, broken=True)
        is_file = stat.S_ISREG(status.st_mode)
        circular = entry.is_symlink() and is_dir and _is_above(path)
        return Entry(entry.name, path, is_dir, is_file, status.st_size, circular=circular)

    def _inside(self, path: Path) -> bool:
        known = self._known_inside.get(path)
        if known is None:
            try:
                real = os.path.realpath(path)
            except (OSError, ValueError):
                return False
            known = real == self._real or real.startswith(self._real.rstrip(os.sep) + os.sep)
            self._known_inside[path] = known
        return known


def _is_above(link: Path) -> bool:
    """Whether a link points to a folder that it lies in."""
    target = os.path.realpath(link)
    return (os.path.realpath(link.parent) + os.sep).startswith(target + os.sep)


def _words(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)

"""A repository is written beside its place and moved there in one step."""

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO

from builder.errors import PublishError, disk_full
from builder.publish.manifest import MANIFEST_NAME

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

_Shape = dict[str, tuple[int, int]]
"""Path below an entry -> modification time in nanoseconds and size."""


def _exchange(first: Path, second: Path) -> bool:
    """Swap two paths atomically (Linux renameat2); False where the system can't."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    result = renameat2(
        _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE
    )
    if result == 0:
        return True
    code = ctypes.get_errno()
    if code in {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}:
        return False
    raise OSError(code, os.strerror(code), str(second))


def _swap(staging: Path, target: Path, old: Path) -> None:
    """Put `staging` at `target` and what was there at `old`."""
    if _exchange(staging, target):
        staging.rename(old)
        return
    # Two renames: for a moment there is no target, but nothing is ever half written.
    target.rename(old)
    try:
        staging.rename(target)
    except OSError:
        old.rename(target)
        raise


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def copy_entry(source: Path, target: Path) -> None:
    """Copy a file, a link or a folder; its files are hard links where the disk has them."""
    if source.is_symlink() or source.is_file():
        shutil.copy2(source, target, follow_symlinks=False)
    else:
        shutil.copytree(source, target, symlinks=True, copy_function=_link_or_copy)


def _shape(entry: Path) -> _Shape:
    """What tells whether somebody changed an entry meanwhile."""
    paths = [entry, *sorted(entry.rglob("*"))] if entry.is_dir() else [entry]
    found = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            found[str(path.relative_to(entry.parent))] = (status.st_mtime_ns, status.st_size)
    return found


def _remove_stale(folder: Path, prefix: str) -> None:
    """Remove what killed builds left; the lock says that none is running."""
    for entry in folder.glob(f"{prefix}*"):
        shutil.rmtree(entry, ignore_errors=True)


def _writable_folder(target: Path) -> Path:
    if target.exists() and not target.is_dir():
        raise PublishError(f"{target} is a file; give a folder to write the repository to")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PublishError(f"{target.parent} can't be made: {error.strerror}") from error
    return target.parent


class Staging:
    """A folder that becomes the repository, or nothing at all."""

    def __init__(self, target: Path, path: Path) -> None:
        self.target = target
        self.path = path
        self.published = False
        self._replaced: frozenset[str] = frozenset()
        self._carried: dict[str, _Shape] = {}

    def carry(self, replaced: Collection[str]) -> list[str]:
        """Keep everything of the repository but the entries that the build replaces or removes.

        Args:
            replaced: Names of those entries; the manifest is one of them.

        Returns:
            Names of the entries that were kept, sorted.
        """
        self._replaced = frozenset({*replaced, MANIFEST_NAME})
        if not self.target.is_dir():
            return []
        for entry in sorted(self.target.iterdir()):
            if entry.name not in self._replaced:
                self._carried[entry.name] = _shape(entry)
                copy_entry(entry, self.path / entry.name)
        return list(self._carried)

    def publish(self) -> None:
        """Move the folder into place in one step; `carry` comes first.

        Raises:
            PublishError: the move failed; the old repository is untouched.
        """
        try:
            if not self.target.exists():
                self.path.rename(self.target)
                self.published = True
                return
            old = self.path.with_name(f"{self.path.name}-old")
            _swap(self.path, self.target, old)
        except OSError as error:
            raise PublishError(
                f"{self.target} can't be replaced: {error.strerror}; it is unchanged. "
                "(A mount point can't be: build into a folder below it.)"
            ) from error
        self.published = True
        self._bring_after(old)
        shutil.rmtree(old, ignore_errors=True)

    def _bring_after(self, old: Path) -> None:
        """What others wrote while the build was carrying over and moving."""
        for entry in sorted(old.iterdir()):
            if entry.name in self._replaced or _shape(entry) == self._carried.get(entry.name):
                continue
            place = self.target / entry.name
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            entry.rename(place)


def _locked(lock: IO[str], waiting: Callable[[], None]) -> None:
    """Hold a lock that ends with the process, however that ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        waiting()
        fcntl.flock(lock, fcntl.LOCK_EX)


@contextlib.contextmanager
def staging_folder(target: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[Staging]:
    """A new folder beside `target`; removed at the end unless it was published.

    Args:
        target: The repository.
        waiting: Called once where another build writes to it, which is waited for.

    Raises:
        PublishError: it can't be made.
    """
    target = target.resolve()
    parent = _writable_folder(target)
    prefix = f".{target.name}.staging-"
    lock_path = parent / f".{target.name}.lock"  # stays: removing it would race
    try:
        lock = lock_path.open("w")
    except OSError as error:
        raise PublishError(f"{parent} is not writable: {error.strerror}") from error
    with lock:
        _locked(lock, waiting)
        _remove_stale(parent, prefix)
        staging = Staging(target, parent / f"{prefix}{uuid.uuid4().hex[:8]}")
        try:
            staging.path.mkdir()
            yield staging
        except OSError as error:
            if disk_full(error):
                raise PublishError(f"{parent}: the disk is full; {target} is unchanged") from error
            raise
        finally:
            shutil.rmtree(staging.path, ignore_errors=True)

"""A repository is written beside its place and moved there in one step."""

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from builder.errors import PublishError, disk_full
from builder.publish.manifest import owned_models

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


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


def _carry_over(target: Path, staging: Path) -> list[str]:
    """Keep what the builder does not own: other people's models, notes, version control."""
    owned = owned_models(target)
    carried = []
    for entry in sorted(target.iterdir()):
        place = staging / entry.name
        if entry.name in owned or place.exists() or entry.name == "manifest.json":
            continue
        if entry.is_symlink() or entry.is_file():
            shutil.copy2(entry, place, follow_symlinks=False)
        else:
            shutil.copytree(entry, place, symlinks=True, copy_function=_link_or_copy)
        carried.append(entry.name)
    return carried


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

    def publish(self) -> list[str]:
        """Move the folder into place in one step.

        Returns:
            Names of entries of the old repository that were kept because they are not ours.

        Raises:
            PublishError: the move failed; the old repository is untouched.
        """
        try:
            if not self.target.exists():
                self.path.rename(self.target)
                self.published = True
                return []
            carried = _carry_over(self.target, self.path)
            old = self.path.with_name(f"{self.path.name}-old")
            _swap(self.path, self.target, old)
        except OSError as error:
            raise PublishError(
                f"{self.target} can't be replaced: {error.strerror}; it is unchanged. "
                "(A mount point can't be: build into a folder below it.)"
            ) from error
        self.published = True
        shutil.rmtree(old, ignore_errors=True)
        return carried


@contextlib.contextmanager
def staging_folder(target: Path) -> Iterator[Staging]:
    """A new folder beside `target`; removed at the end unless it was published.

    Raises:
        PublishError: it can't be made, or another build writes to the same target.
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
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise PublishError(f"another build is writing to {target}; wait for it") from error
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

"""Where a checkpoint lies: a local folder, or a repository of the hub held at a commit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from transformers.utils.hub import cached_file

from builder.errors import CheckpointError
from builder.publish.manifest import sha256
from builder.spec.models import CheckpointSource


def resolve_source(checkpoint: CheckpointSource, base: Path) -> str:
    """A local folder, relative to the spec file, where there is one; else a hub id.

    Raises:
        CheckpointError: it looks like a path but is no folder.
    """
    local = (base / checkpoint.path).resolve()
    if local.is_dir():
        return str(local)
    looks_like_path = checkpoint.path.startswith((".", "/", "~")) or checkpoint.path.count("/") > 1
    if local.exists() or looks_like_path:
        raise CheckpointError(f"checkpoint {local} is not a folder; give a folder or a hub id")
    return checkpoint.path


def snapshot(source: str, revision: str | None) -> Path:
    """Where a checkpoint lies on disk.

    Args:
        source: What `resolve_source` gives.
        revision: Of the hub; None: its main branch.

    Returns:
        The local folder; or that in the hub's cache, named by its commit, which holds the files
        that were fetched so far.
    """
    if Path(source).is_dir():
        return Path(source)
    return Path(str(cached_file(source, "config.json", revision=revision))).parent


@contextmanager
def checkpoint_errors(source: str) -> Iterator[None]:
    """Turn whatever a loader raises into one sentence."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        first = lines[0] if lines else type(error).__name__
        if isinstance(error, ArithmeticError):
            first = f"values of its config.json do not go together ({first})"
        raise CheckpointError(f"checkpoint {source} does not load: {first}") from error


Named = TypeVar("Named", bound=CheckpointSource)


def pinned(checkpoint: Named, base: Path) -> Named:
    """The checkpoint, held at the commit that its revision names now.

    Whatever is read of it later is of that commit, also if somebody pushes meanwhile.

    Args:
        checkpoint: Where it is.
        base: Folder that local paths are relative to.

    Returns:
        The same where it is a local folder.

    Raises:
        CheckpointError: missing.
    """
    source = resolve_source(checkpoint, base)
    if Path(source).is_dir():
        return checkpoint
    with checkpoint_errors(source):
        commit = snapshot(source, checkpoint.revision).name
    return checkpoint.model_copy(update={"revision": commit})


def hub_options(checkpoint: CheckpointSource) -> dict[str, Any]:
    """Options that every transformers loader gets."""
    return {
        "revision": checkpoint.revision,
        "trust_remote_code": checkpoint.trust_remote_code,
    }


def source_hashes(
    source: str, revision: str | None, hashed: Callable[[Path], str] = sha256
) -> dict[str, str]:
    """What a checkpoint is told apart by.

    Args:
        source: What `resolve_source` gives.
        revision: Of the hub; None: its main branch.
        hashed: Hash of a file.

    Returns:
        File name -> sha256 of a local folder; `commit` of a checkpoint on the hub.
    """
    folder = snapshot(source, revision)
    if not Path(source).is_dir():
        return {"commit": folder.name}
    return {path.name: hashed(path) for path in sorted(folder.iterdir()) if path.is_file()}

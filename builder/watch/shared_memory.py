"""Shared memory: what clients may register of it, and what a killed server leaves.

Any client of Triton may register a region of /dev/shm by its name and then have the server read
and write there, the Python backend's own regions included. Triton 26.04 turns that off by default
(`--allow-client-shm`); earlier ones can ask for a key, and nobody is told this one.
"""

import contextlib
import secrets
from collections.abc import Sequence
from pathlib import Path

_FEATURE = "shared-memory"
_OPTIONS = ("--grpc-restricted-protocol", "--http-restricted-api")
_REGIONS = Path("/dev/shm")  # noqa: S108 (Linux' place for them)


def restrict(arguments: "Sequence[str]") -> "list[str]":
    """Options of `tritonserver` that refuse clients' shared memory, where nothing is said of it.

    Args:
        arguments: Its other options; one that names `shared-memory` or `allow-client-shm` wins.
    """
    if any(_FEATURE in argument or "allow-client-shm" in argument for argument in arguments):
        return []
    return [f"{option}={_FEATURE}:shared-memory-key={secrets.token_hex(32)}" for option in _OPTIONS]


def new_prefix() -> str:
    """A prefix of region names that nobody can guess."""
    return f"watched-{secrets.token_hex(8)}-"


def hide_regions(prefix: str) -> None:
    """Let nobody but their user read them: the Python backend sets mode 0644, umask or not."""
    for path in _REGIONS.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            path.chmod(0o600)


def remove_regions(prefix: str) -> None:
    """Remove the regions whose name starts with `prefix`: a killed server leaves them."""
    for path in _REGIONS.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            path.unlink()

"""What an artifact was made from, as one hash."""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.publish.manifest import package_versions

_PACKAGE = Path(__file__).parents[1]
_DATA = {".json", ".yaml"}


@functools.cache
def sources_hash() -> str:
    """Hash of the builder's own Python files and table of releases.

    Any change of them makes everything anew.
    """
    digest = hashlib.sha256()
    data = (path for path in (_PACKAGE / "releases").iterdir() if path.suffix in _DATA)
    for path in sorted([*_PACKAGE.rglob("*.py"), *data]):
        digest.update(str(path.relative_to(_PACKAGE)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def cache_key(parts: Mapping[str, Any]) -> str:
    """Hash of what is said, the builder's sources and the versions of its libraries.

    Args:
        parts: What else shapes the artifact; JSON.
    """
    whole = {"parts": parts, "sources": sources_hash(), "versions": package_versions()}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()

"""Files that were compared with their source, in the cache together with what was found."""

from collections.abc import Callable
from pathlib import Path

from builder.cache.store import Store
from builder.verify.measure import ParityRow


def take_verified(store: Store | None, key: str, folder: Path) -> list[ParityRow] | None:
    """Copy what was kept under a key into a folder.

    Args:
        store: The cache; None: there is none.
        key: What it was kept under.
        folder: Where the files go.

    Returns:
        Its parity; None where it must be made.
    """
    facts = store.take(key, folder) if store else None
    return None if facts is None else [ParityRow.of(row) for row in facts["rows"]]


def make_verified(
    store: Store | None, key: str, folder: Path, make: Callable[[], list[ParityRow]]
) -> list[ParityRow]:
    """Make files, and keep them and their parity if all of it is within its tolerance.

    Args:
        store: The cache; None: nothing is kept.
        key: What they are found under.
        folder: Where they are made; what stands there before is not kept.
        make: Writes them and gives their parity.
    """
    before = set(folder.iterdir())
    rows = make()
    files = set(folder.iterdir()) - before
    if store and files and all(row.passed for row in rows):
        store.put(key, files, {"rows": [row.as_dict() for row in rows]})
    return rows

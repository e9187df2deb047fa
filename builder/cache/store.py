"""A folder of finished artifacts: written whole, checked when taken out, bounded in size."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from builder.errors import disk_full
from builder.publish.manifest import sha256

DEFAULT_MAX_BYTES: Final = 20_000_000_000
_FACTS: Final = "entry.json"
_PARTIAL: Final = ".partial-"


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/triton-repository-builder`; `~/.cache/...` where the variable is not set."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "triton-repository-builder"


class Store:
    """Entries by key: files, and facts about them."""

    def __init__(self, folder: Path, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        """Name a folder; it is made when something is put there.

        Args:
            folder: The folder.
            max_bytes: Size above which entries are dropped, the longest unused first.
        """
        self.folder = folder
        self.max_bytes = max_bytes

    def _entry(self, key: str) -> Path:
        return self.folder / "artifacts" / key

    def scratch(self, key: str) -> Path:
        """A folder that an interrupted making of `key` can go on from."""
        return self.folder / "unfinished" / key

    def take(self, key: str, target: Path) -> dict[str, Any] | None:
        """Copy the files of an entry into a folder.

        An entry with a missing or changed file is dropped.

        Args:
            key: What it was put under.
            target: The folder.

        Returns:
            The facts; None where there is no sound entry.

        Raises:
            OSError: the disk of the folder is full.
        """
        entry = self._entry(key)
        if not entry.is_dir():
            return None
        copied: list[Path] = []
        full: OSError | None = None
        try:
            record = json.loads((entry / _FACTS).read_text())
            for name in record["files"]:
                place = target / Path(name).name
                copied.append(place)  # a part of it may stand there
                shutil.copyfile(entry / "files" / place.name, place)
            # The copies are hashed: what is used is what was checked.
            sound = [sha256(place) for place in copied] == list(record["files"].values())
            facts: dict[str, Any] = record["facts"]
            os.utime(entry / _FACTS)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            full = disk_full(error)
            sound = False
        if sound:
            return facts
        for place in copied:
            place.unlink(missing_ok=True)
        if full:
            raise full  # the target's, which says nothing of the entry
        shutil.rmtree(entry, ignore_errors=True)
        return None

    def put(self, key: str, files: Iterable[Path], facts: Mapping[str, Any]) -> bool:
        """Keep copies of some files; a full disk is no error, nothing is kept then.

        Args:
            key: What they are found under.
            files: Files of different names.
            facts: JSON that is given back with them.

        Returns:
            Whether they were kept.
        """
        paths = list(files)
        size = sum(path.stat().st_size for path in paths)
        if size > self.max_bytes:
            return False
        entry = self._entry(key)
        partial: Path | None = None
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            self._make_room(size)
            partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=entry.parent))
            (partial / "files").mkdir()
            for path in paths:
                shutil.copyfile(path, partial / "files" / path.name)
            record = {
                "files": {path.name: sha256(path) for path in paths},
                "facts": dict(facts),
            }
            (partial / _FACTS).write_text(json.dumps(record))
            shutil.rmtree(entry, ignore_errors=True)
            partial.rename(entry)
        except OSError:
            if partial is not None:
                shutil.rmtree(partial, ignore_errors=True)
            return False
        shutil.rmtree(self.scratch(key), ignore_errors=True)
        return True

    def _make_room(self, size: int) -> None:
        """Drop entries, the longest unused first, until `size` bytes fit."""
        aged = []
        for entry in (self.folder / "artifacts").iterdir():
            try:
                if entry.name.startswith(_PARTIAL):
                    continue
                held = sum(path.stat().st_size for path in entry.rglob("*") if path.is_file())
                aged.append(((entry / _FACTS).stat().st_mtime, held, entry))
            except OSError:
                shutil.rmtree(entry, ignore_errors=True)
        aged.sort(key=lambda one: one[0])
        total = sum(held for _, held, _ in aged)
        for _, held, entry in aged:
            if total + size <= self.max_bytes:
                break
            shutil.rmtree(entry, ignore_errors=True)
            total -= held

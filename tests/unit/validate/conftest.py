"""Repositories written from a dict of files."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

Files = Mapping[str, str | bytes | None]
Write = Callable[[Files], Path]

MODEL_PY = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write({"model/config.pbtxt": ..., "model/1": None})`; None is an empty folder.

    A text that starts with `->` is a link to what follows.
    """

    def write_files(files: Files) -> Path:
        root = tmp_path / "repository"
        root.mkdir(exist_ok=True)
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.mkdir(exist_ok=True)
            elif isinstance(content, str) and content.startswith("->"):
                path.symlink_to(content[2:])
            elif isinstance(content, str):
                path.write_text(content)
            else:
                path.write_bytes(content)
        return root

    return write_files

"""A small Python model and its spec, and `build` as the command line runs it."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.cli import main

SOURCE = """import numpy as np


class TritonPythonModel:
    def execute(self, requests):
        return []
"""
SPEC = """name: rules
python: {path: rules/}
inputs: [{name: X, data_type: FP32, dims: [-1]}]
outputs: [{name: Y, data_type: FP32, dims: [-1]}]
"""

Builder = Callable[..., str]


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Builder:
    """`builder(*arguments)`: what it printed; where it failed, the one line of exit 2."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["builder", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        if not ended.value.code:
            return told.out
        assert ended.value.code == 2
        error = told.err.strip()
        assert len(error.splitlines()) == 1
        return error

    return run


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A folder with a model, and `rules.yaml` beside it."""
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "model.py").write_text(SOURCE)
    (tmp_path / "rules.yaml").write_text(SPEC)
    return folder

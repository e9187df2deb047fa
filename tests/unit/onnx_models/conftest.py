"""`init` and `build` as the command line runs them."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.cli import main
from builder.spec.load import load_any_spec
from builder.spec.onnx_file import OnnxSpec

Init = Callable[..., OnnxSpec]
Builder = Callable[..., str]


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Builder:
    """`builder(*arguments)`: "" where it worked, else the one line that exit 2 came with."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["builder", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        error = capsys.readouterr().err.strip()
        if not ended.value.code:
            return ""
        assert ended.value.code == 2
        assert len(error.splitlines()) == 1
        return error

    return run


@pytest.fixture
def init(builder: Builder) -> Init:
    """`init(path)`: the spec that `builder init` writes beside the file."""

    def run(path: Path) -> OnnxSpec:
        output = path.with_suffix(".yaml")
        assert builder("init", path, "--output", output) == ""
        spec = load_any_spec(output)
        assert isinstance(spec, OnnxSpec)
        return spec

    return run

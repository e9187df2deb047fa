"""The command line: a user's mistake is a sentence and exit code 2, never a traceback."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.cli import main

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "examples" / "tiny" / "checkpoint"


@dataclass
class Result:
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Result]


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`builder(*arguments, cwd=...)`, in this process; an escaping exception fails the test."""

    def run(*arguments: object, cwd: Path = ROOT) -> Result:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["builder", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return Result(int(ended.value.code or 0), out, err)

    return run


MISTAKES = {
    "no such spec": (["build", "none.yaml"], "none.yaml: no such spec file"),
    "no such checkpoint": (["build", "bad.yaml"], "is not a folder"),
    "unknown model": (
        ["build", "spec.yaml", "--only", "nothing"],
        "no such model; it has preprocess",
    ),
    "output is a file": (["build", "spec.yaml", "--output", "spec.yaml"], "is a file"),
    "init of nothing": (["init", "./none", "--output", "new.yaml"], "is not a folder"),
    "init over a file": (["init", CHECKPOINT, "--output", "spec.yaml"], "exists"),
    "serve of nothing": (["serve", "none"], "none"),
    "ask nobody": (["ask", "photo.png", "What?", "--url", "127.0.0.1:9"], "127.0.0.1:9"),
    "ask about nothing": (["ask", "none.png", "What?"], "none.png"),
    "validate of nothing": (["validate", "none"], "none"),
    "bench of nothing": (["bench", "none", "vision"], "none"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "spec.yaml").write_text(f"name: x\ncheckpoint: {{path: {CHECKPOINT}}}\n")
    (folder / "bad.yaml").write_text("name: x\ncheckpoint: {path: ./none}\n")
    (folder / "photo.png").write_bytes(b"\x89PNG")
    return folder


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_message_and_exit_2(builder: Run, folder: Path, mistake: str) -> None:
    arguments, sentence = MISTAKES[mistake]
    result = builder(*arguments, cwd=folder)
    assert result.returncode == 2, result.stderr
    assert sentence in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_init_writes_a_spec_that_loads(builder: Run, folder: Path) -> None:
    result = builder("init", CHECKPOINT, "--name", "mine", cwd=folder)
    assert result.returncode == 0, result.stderr
    text = (folder / "mine.yaml").read_text()
    assert "relevance: checkpoint" in text
    assert builder("render", "mine.yaml", "--output", "out", cwd=folder).returncode == 0
    assert (folder / "out" / "mine" / "config.pbtxt").is_file()


def test_render_check_says_what_drifted(builder: Run, folder: Path) -> None:
    assert builder("render", "spec.yaml", "--output", "repo", cwd=folder).returncode == 0
    assert builder("render", "spec.yaml", "--output", "repo", "--check", cwd=folder).returncode == 0
    config = folder / "repo" / "vision" / "config.pbtxt"
    config.write_text(config.read_text() + "# changed\n")
    result = builder("render", "spec.yaml", "--output", "repo", "--check", cwd=folder)
    assert result.returncode == 1
    assert "repo/vision/config.pbtxt differs" in result.stdout


def test_git_keeps_what_the_shipped_spec_renders(builder: Run) -> None:
    result = builder("render", "specs/arr_coc.yaml", "--output", "model_repository", "--check")
    assert result.returncode == 0, result.stdout


def test_serving_needs_no_torch() -> None:
    """The serving image has no torch: the command line must not import it."""
    code = "import sys, builder.cli; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)

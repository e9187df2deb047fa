"""What runs in CI: the pre-commit hook, the GitHub Action, the annotations."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from builder.cli import app
from builder.validate import validate_repository
from builder.validate.annotations import annotation

from .conftest import MODEL_PY, Write

ROOT = Path(__file__).resolve().parents[3]
BROKEN = 'backend: "python"\ninstance_group { kind: 9 }\nmax_batch_size: 4\n'


@pytest.fixture
def repository(write: Write) -> Path:
    return write({"m/config.pbtxt": BROKEN, "m/1/model.py": MODEL_PY})


def test_the_hook_is_a_command_of_ours(repository: Path) -> None:
    (hook,) = YAML(typ="safe").load(ROOT / ".pre-commit-hooks.yaml")
    program, *arguments = shlex.split(hook["entry"])
    assert program == "builder"
    assert hook["pass_filenames"] is False
    assert hook["language"] == "python"
    assert CliRunner().invoke(app, [*arguments, str(repository)]).exit_code == 1


def test_pre_commit_accepts_the_manifest() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-manifest", ROOT / ".pre-commit-hooks.yaml"],
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout


def _action_script(tmp_path: Path) -> tuple[str, dict[str, str]]:
    action = YAML(typ="safe").load(ROOT / "action.yml")
    step = next(step for step in action["runs"]["steps"] if step.get("id") == "validate")
    temporary = tmp_path / "runner"
    (temporary / "builder" / "bin").mkdir(parents=True)
    for name in ("builder", "python"):
        start = temporary / "builder" / "bin" / name
        module = "" if name == "python" else "-m builder "
        start.write_text(f'#!/bin/sh\nexec {sys.executable} {module}"$@"\n')
        start.chmod(0o755)
    defaults = {name: spec.get("default", "") for name, spec in action["inputs"].items()}
    environment = {
        key: value.replace("${{ inputs.", "").replace(" }}", "")
        for key, value in step["env"].items()
    }
    return step["run"], {
        **{key: str(defaults[name]) for key, name in environment.items()},
        "RUNNER_TEMP": str(temporary),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
    }


@pytest.mark.parametrize(("broken", "status"), [(True, 1), (False, 0)])
def test_the_action_runs(broken: bool, status: int, repository: Path, tmp_path: Path) -> None:
    if not broken:
        (repository / "m" / "config.pbtxt").write_text('backend: "python"')
    script, environment = _action_script(tmp_path)
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        cwd=repository.parent,
        env={**environment, "REPOSITORY": "repository", "GPUS": "0", "BACKENDS": "mine other"},
    )
    assert done.returncode == status, done.stderr
    written = (tmp_path / "output").read_text().strip().removeprefix("findings=")
    findings = json.loads(Path(written).read_text())["findings"]
    assert bool([f for f in findings if f["severity"] == "error"]) is broken
    assert ("::error file=repository/m/config.pbtxt,line=2," in done.stdout) is broken


def test_the_action_fails_on_no_repository(tmp_path: Path) -> None:
    script, environment = _action_script(tmp_path)
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        check=False,
        capture_output=True,
        cwd=tmp_path,
        env={**environment, "REPOSITORY": "gone"},
    )
    assert done.returncode == 2


def test_annotations_are_escaped(repository: Path) -> None:
    finding = validate_repository(repository)[0].as_json()
    finding |= {"message": "50%\nmore", "mend": "less", "rule": "a:b,c", "line": 0}
    assert annotation(finding, "dir") == (
        "::error file=dir/m/config.pbtxt,line=1,title=a%3Ab%2Cc::50%25%0Amore -> less"
    )

"""`builder eval` on the trained digits checkpoint: a real server against the torch reference."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from builder.build import Build
from builder.evaluate.dataset import Digits
from builder.spec.load import load_spec
from builder.spec.models import Spec
from tests.integration.conftest import Serve, Steps

SPEC = Path(__file__).parents[2] / "specs" / "digits.yaml"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "model_repository"
    Build(load_spec(SPEC), SPEC, folder, Steps()).run()
    return folder


def test_served_answers_are_those_of_torch(
    repository: Path, serve_repository: Serve, tmp_path: Path
) -> None:
    figures = tmp_path / "figures.json"
    with serve_repository(repository) as server:
        command = [sys.executable, "-m", "builder", "eval", str(SPEC), "--url", server.grpc_url]
        command += ["--questions", "40", "--seed", "7", "--kept", "16", "--kept", "3"]
        done = subprocess.run(
            [*command, "--json", str(figures)], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert "agree on 40 of 40 answers" in done.stdout
    result = json.loads(figures.read_text())
    assert (result["data"], result["questions"], result["seed"]) == ("digits", 40, 7)
    for row, kept in zip(result["results"], (16, 3), strict=True):
        assert row["kept"] == kept
        assert row["served"] == row["torch"]
        assert row["agree"]["right"] == 40
    # It reads: a pipeline that guessed would get fewer than one in five.
    assert result["results"][0]["served"][-1]["accuracy"] > 0.8


def test_ones_own_questions(repository: Path, serve_repository: Serve, tmp_path: Path) -> None:
    assert isinstance(load_spec(SPEC), Spec)
    lines = []
    for place, item in enumerate(Digits(6, seed=0)):
        (tmp_path / f"{place}.png").write_bytes(item.image)
        lines.append({"image": f"{place}.png", "prompt": item.prompt, "answer": item.answer})
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(json.dumps(line) for line in lines))
    with serve_repository(repository) as server:
        command = [sys.executable, "-m", "builder", "eval", "--url", server.grpc_url]
        good = subprocess.run(
            [*command, "--data", str(data)], capture_output=True, text=True, check=False
        )
        missing = subprocess.run(
            [*command, "--data", str(data), "--model", "other"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert good.returncode == 0, good.stderr
    assert "all" in good.stdout
    assert missing.returncode == 2
    assert "other" in missing.stderr
    assert "Traceback" not in missing.stderr

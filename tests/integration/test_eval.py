"""`builder eval` on the trained digits checkpoint: a real server against the torch reference."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.build import Build
from builder.evaluate.dataset import Digits
from builder.spec.load import load_spec
from tests.integration.conftest import Serve, Steps

SPEC = Path(__file__).parents[2] / "specs" / "digits.yaml"
CHECKPOINT = SPEC.parents[1] / "examples" / "digits" / "checkpoint"


@pytest.fixture(scope="module")
def url(serve_repository: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """gRPC endpoint of the digits pipeline on a real server."""
    folder = tmp_path_factory.mktemp("digits") / "model_repository"
    Build(load_spec(SPEC), SPEC, folder, Steps()).run()
    with serve_repository(folder) as server:
        yield server.grpc_url


def run_eval(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "builder", "eval", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_served_answers_are_those_of_torch(url: str, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = ["--questions", "40", "--seed", "7", "--kept", "16,3", "--json", str(figures)]
    done = run_eval(str(SPEC), "--url", url, "--compare", *options)
    assert done.returncode == 0, done.stderr
    assert "agree on 40 of 40 answers" in done.stdout
    result = json.loads(figures.read_text())
    assert (result["data"], result["questions"], result["seed"]) == ("digits", 40, 7)
    for row, kept in zip(result["results"], (16, 3), strict=True):
        assert row["kept"] == kept
        assert row["served"] == row["torch"]
        assert row["agree"]["right"] == 40
        assert row["differences"] == []
    # It reads: a pipeline that guessed would get fewer than one in five.
    assert result["results"][0]["served"][-1]["accuracy"] > 0.8


def test_another_pipeline_than_the_served_one_is_told(url: str, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    text = SPEC.read_text().replace("../examples/digits/checkpoint", str(CHECKPOINT))
    other.write_text(text.replace("kept_tokens: 16", "kept_tokens: 3\nprune: before_vision"))
    figures = tmp_path / "figures.json"
    done = run_eval(
        str(other), "--url", url, "--compare", "--questions", "40", "--kept", "3",
        "--json", str(figures),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    [row] = json.loads(figures.read_text())["results"]
    assert len(row["differences"]) == 40 - row["agree"]["right"] > 0
    first = row["differences"][0]
    assert first["served"] != first["torch"]
    assert first["prompt"] == Digits(40, 0)[first["question"]].prompt


def test_ones_own_questions(url: str, tmp_path: Path) -> None:
    lines = []
    for place, item in enumerate(Digits(6, seed=0)):
        (tmp_path / f"{place}.png").write_bytes(item.image)
        lines.append({"image": f"{place}.png", "prompt": item.prompt, "answer": item.answer})
    lines[0]["answer"] = "no digit at all"
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(json.dumps(line) for line in lines))
    figures = tmp_path / "figures.json"
    good = run_eval("--url", url, "--data", str(data), "--json", str(figures))
    assert good.returncode == 0, good.stderr
    [row] = json.loads(figures.read_text())["results"]
    assert row["served"][-1]["asked"] == 6
    assert 0 < row["served"][-1]["right"] < 6


@pytest.mark.parametrize(
    ("options", "says"),
    [(["--model", "other"], "other"), (["--kept", "17"], "VISUAL_TOKENS is 17")],
)
def test_what_the_server_refuses_is_a_sentence(url: str, options: list[str], says: str) -> None:
    refused = run_eval("--url", url, "--questions", "3", *options)
    assert refused.returncode == 2
    assert says in refused.stderr
    assert "Traceback" not in refused.stderr

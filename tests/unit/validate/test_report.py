"""Text, JSON, `# builder: ignore` and the command."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from builder.cli import app, main
from builder.validate import validate_repository

from .conftest import MODEL_PY, Write
from .test_rules import XY, ensemble, graph

BROKEN = 'backend: "python"\nmax_batch_size: 4\ndynamic_batching {\n  preferred_batch_size: 8 }\n'
FINE = 'backend: "python"\n'


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["validate", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def broken(write: Write) -> Path:
    return write({"m/config.pbtxt": BROKEN, "m/1/model.py": MODEL_PY})


def test_text_has_place_rule_and_mend(broken: Path) -> None:
    code, output = run(broken)
    assert code == 1
    assert f"{broken}/m/config.pbtxt:4: error: batching.preferred-size" in output
    assert "-> lower it" in output
    assert output.endswith("1 model: 1 error in 1 model, 0 advice\n")


def test_json_has_the_fixed_form(broken: Path) -> None:
    code, output = run(broken, "--format", "json")
    assert code == 1
    (finding,) = json.loads(output)["findings"]
    assert finding["model"] == "m"
    assert finding["rule"] == "batching.preferred-size"
    assert finding["field"] == "dynamic_batching.preferred_batch_size[0]"
    assert finding["message"]
    assert (finding["severity"], finding["file"], finding["line"]) == ("error", "m/config.pbtxt", 4)


def test_clean_and_advice_exit_with_zero(write: Write) -> None:
    root = write({"m/config.pbtxt": FINE, "m/1/model.py": MODEL_PY})
    assert run(root) == (0, "1 model: 0 errors in 0 models, 0 advice\n")
    assert json.loads(run(root, "--format", "json")[1]) == {"findings": []}
    (root / "m/config.pbtxt").write_text(FINE + "max_batch_size: 4")
    code, output = run(root)
    assert code == 0
    assert "advice.no-dynamic-batching" in output


def test_unusable_exits_with_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["builder", "validate", str(tmp_path / "gone")])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_bad_release(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["builder", "validate", str(broken), "--release", "latest"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2


def test_show_effective(write: Write) -> None:
    root = write({"m/1/model.onnx": graph(), "broken/config.pbtxt": "junk", "broken/1": None})
    code, output = run(root, "--show-effective")
    assert code == 1
    assert "# broken/config.pbtxt: does not parse" in output
    assert 'backend: "onnxruntime"' in output
    assert "max_batch_size: 4" in output
    effective = json.loads(run(root, "--show-effective", "--format", "json")[1])["effective"]
    assert effective["broken"] == ""
    assert 'name: "X"' in effective["m"]


def test_options_change_the_server(write: Write) -> None:
    root = write(
        {
            "m/config.pbtxt": 'backend: "mine" instance_group { kind: KIND_GPU }',
            "m/1": None,
        }
    )
    assert run(root)[0] == 1
    assert run(root, "--backend", "mine")[0] == 0
    assert run(root, "--backend", "mine", "--gpus", "0")[0] == 1


@pytest.mark.parametrize(
    ("comment", "ignored"),
    [
        ("# builder: ignore batching.preferred-size", True),
        ("#builder:ignore batching.preferred-size", True),
        ("# builder: ignore other.rule, batching.*", True),
        ("# builder: ignore *", True),
        ("# builder: ignore batching.max-batch-size", False),
        ("# builder: ignore", False),
        ("# ignore batching.preferred-size", False),
    ],
)
def test_ignore_for_the_model(comment: str, ignored: bool, write: Write) -> None:
    root = write({"m/config.pbtxt": f"{comment}\n{BROKEN}", "m/1/model.py": MODEL_PY})
    assert (validate_repository(root) == []) is ignored


def test_ignore_for_a_line(write: Write) -> None:
    config = (
        "max_batch_size: 4 dynamic_batching {\n"
        "preferred_batch_size: 8 # builder: ignore batching.preferred-size\n"
        "preferred_batch_size: 9\n}\n"
    )
    root = write({"m/config.pbtxt": f"{FINE}{config}", "m/1/model.py": MODEL_PY})
    assert [finding.line for finding in validate_repository(root)] == [4]


def test_the_text_itself_cannot_be_ignored(write: Write) -> None:
    root = write({"m/config.pbtxt": "# builder: ignore *\njunk: 1", "m/1": None})
    assert [finding.rule for finding in validate_repository(root)] == ["proto.unknown-field"]


def test_an_ignored_error_does_not_fail_the_ensemble(write: Write) -> None:
    files = dict(ensemble(XY))
    files["m/config.pbtxt"] = f"{files['m/config.pbtxt']}\ninstance_group {{ kind: 9 }}"
    rules = {finding.rule for finding in validate_repository(write(files))}
    assert "ensemble.model-failed" in rules
    files["m/config.pbtxt"] = f"# builder: ignore instance.kind\n{files['m/config.pbtxt']}"
    rules = {finding.rule for finding in validate_repository(write(files))}
    assert "ensemble.model-failed" not in rules


def test_control_characters_do_not_reach_the_terminal(write: Write) -> None:
    root = write({"m/config.pbtxt": 'name: "\\033[31m" backend: "python"', "m/1/model.py": ""})
    assert "\x1b" not in run(root)[1]

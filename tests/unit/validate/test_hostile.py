"""Repositories made to hurt: findings, never a traceback, a hang or a look outside."""

import os
from pathlib import Path

import pytest

from builder.errors import BuilderError
from builder.validate import Finding, validate_repository

from .conftest import MODEL_PY, Write
from .test_rules import graph

PYTHON = 'backend: "python"'


def rules(findings: list[Finding]) -> set[str]:
    return {finding.rule for finding in findings}


def test_not_a_repository(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone", tmp_path / "file"):
        (tmp_path / "file").write_text("")
        with pytest.raises(BuilderError):
            validate_repository(path)
    (tmp_path / "config.pbtxt").write_text("")
    with pytest.raises(BuilderError, match="is one model"):
        validate_repository(tmp_path)


def test_a_model_folder_outside(write: Write, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "1").mkdir(parents=True)
    (outside / "config.pbtxt").write_text("SECRET")
    findings = validate_repository(write({"m": f"->{outside}"}))
    assert findings
    assert not any("SECRET" in finding.message for finding in findings)


@pytest.mark.parametrize("name", ["config.pbtxt", "1/model.py", "labels.txt"])
def test_files_outside_are_not_read(name: str, write: Write, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("SECRET: 1")
    files = {
        "m/config.pbtxt": f'{PYTHON} output {{ name: "Y" data_type: TYPE_FP32 dims: 1 '
        'label_filename: "labels.txt" }',
        "m/1/model.py": MODEL_PY,
        "m/labels.txt": "",
        f"m/{name}": f"->{secret}",
    }
    findings = validate_repository(write(files))
    assert "layout.link-outside" in rules(findings)
    assert not any("SECRET" in finding.message for finding in findings)


def test_links_in_circles(write: Write) -> None:
    findings = validate_repository(
        write({"m/config.pbtxt": PYTHON, "m/1/model.py": MODEL_PY, "m/2": "->2", "m/3": "->.."})
    )
    assert findings


def test_links_inside_are_fine(write: Write) -> None:
    files = {
        "store/1/model.py": MODEL_PY,
        "store/config.pbtxt": PYTHON,
        "m/config.pbtxt": "->../store/config.pbtxt",
        "m/1": "->../store/1",
    }
    assert validate_repository(write(files)) == []


@pytest.mark.parametrize("name", ["config.pbtxt", "1/model.py", "1/model.onnx", "1/model.plan"])
def test_pipes_are_not_opened(name: str, write: Write) -> None:
    root = write({"m/1": None})
    os.mkfifo(root / "m" / name)
    assert validate_repository(root)


def test_huge_files(write: Write) -> None:
    root = write({"m/config.pbtxt": PYTHON, "m/1/model.py": "", "n/1/model.onnx": ""})
    for name in ("m/1/model.py", "n/1/model.onnx"):
        os.truncate(root / name, 1 << 40)
    assert {"python.source", "onnx.file"} <= rules(validate_repository(root))
    os.truncate(root / "m/config.pbtxt", 1 << 40)
    assert "proto.unreadable" in rules(validate_repository(root))


def test_nesting(write: Write) -> None:
    deep = "input " + "{" * 100_000
    source = "x = " + "(" * 100_000
    nested = "class TritonPythonModel:\n    x = " + "-" * 100_000 + "1\n"
    files = {
        "a/config.pbtxt": deep,
        "a/1": None,
        "b/config.pbtxt": PYTHON,
        "b/1/model.py": source,
        "c/config.pbtxt": PYTHON,
        "c/1/model.py": nested,
    }
    assert {"proto.syntax", "python.source"} <= rules(validate_repository(write(files)))


def test_names(write: Write) -> None:
    files = {
        f"{name}/config.pbtxt": "junk: 1" for name in ("with space", "ü", "a\nb", "-", "\x1b[31m")
    }
    findings = validate_repository(write({**files, **dict.fromkeys(["..hidden/1", "x" * 255])}))
    assert len({finding.model for finding in findings}) == 7


def test_names_that_are_no_text(write: Write) -> None:
    root = write({"m/config.pbtxt": PYTHON, "m/1/model.py": MODEL_PY})
    (root / "m" / os.fsdecode(b"\xff\xfe")).mkdir()
    (root / os.fsdecode(b"\xff")).mkdir()
    assert validate_repository(root)


def test_paths_in_the_config(write: Write) -> None:
    for path in ("../../../../etc/passwd", "/etc/passwd", "a\\0b", "x" * 5000, ".", "", "1"):
        config = f"""{PYTHON} default_model_filename: "{path}" max_batch_size: 1
        input {{ name: "X" data_type: TYPE_STRING dims: 1 }}
        output {{ name: "Y" data_type: TYPE_FP32 dims: 1 label_filename: "{path}" }}
        model_warmup {{ batch_size: 1 inputs {{ key: "X"
          value {{ data_type: TYPE_STRING dims: 1 input_data_file: "{path}" }} }} }}
        parameters {{ key: "EXECUTION_ENV_PATH"
          value {{ string_value: "$$TRITON_MODEL_DIRECTORY/{path}" }} }}
        sequence_batching {{ state {{ input_name: "S" data_type: TYPE_FP32 dims: 1 initial_state {{
          name: "i" data_type: TYPE_FP32 dims: 1 data_file: "{path}" }} }} }}"""
        findings = validate_repository(write({"m/config.pbtxt": config, "m/1/model.py": ""}))
        assert not any("root:" in finding.message for finding in findings)


def test_unreadable_folders(write: Write) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    root = write({"m/config.pbtxt": PYTHON, "m/1/model.py": MODEL_PY})
    (root / "m" / "1").chmod(0)
    try:
        assert validate_repository(root)
    finally:
        (root / "m" / "1").chmod(0o700)


def test_truncated_onnx(write: Write) -> None:
    data = graph()
    for end in range(0, len(data), 7):
        root = write({"m/1/model.onnx": data[:end]})
        validate_repository(root)


def test_ensembles_of_a_thousand_in_a_ring(write: Write) -> None:
    files: dict[str, str | bytes | None] = {}
    for number in range(1000):
        files[f"e{number}/config.pbtxt"] = (
            f'platform: "ensemble" ensemble_scheduling {{ step {{ '
            f'model_name: "e{(number + 1) % 1000}" model_version: -1 '
            'input_map { key: "a" value: "a" } output_map { key: "b" value: "b" } } }'
        )
        files[f"e{number}/1"] = None
    findings = validate_repository(write(files))
    assert len([f for f in findings if f.rule == "ensemble.circle"]) == 1000


def test_a_wide_ensemble(write: Write) -> None:
    maps = " ".join(
        f'input_map {{ key: "i{n}" value: "i{n}" }} output_map {{ key: "o{n}" value: "o{n}" }}'
        for n in range(500)
    )
    config = (
        'platform: "ensemble" ensemble_scheduling { step { model_name: "m" model_version: -1 '
        + maps
        + " } }"
    )
    files = {
        "e/config.pbtxt": config,
        "e/1": None,
        "m/config.pbtxt": PYTHON,
        "m/1/model.py": MODEL_PY,
    }
    assert "ensemble.maps" in rules(validate_repository(write(files)))

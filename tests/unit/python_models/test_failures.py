"""A Python model or spec that can't be served is one sentence and exit 2; nothing is published."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.python_models.conftest import SOURCE, SPEC

Builder = Callable[..., str]


def refusal(builder: Builder, tmp_path: Path) -> str:
    error = builder("build", tmp_path / "rules.yaml", "--output", tmp_path / "out", "--no-cache")
    assert not (tmp_path / "out").exists()
    return error


@pytest.mark.parametrize(
    ("written", "instead", "sentence"),
    [
        ("data_type: FP32", "data_type: FLOAT32", ":3: inputs.0.data_type: 'FLOAT32' is called"),
        ("data_type: FP32", "data_type: TYPE_FP32", "'TYPE_FP32' is called FP32 here"),
        ("data_type: FP32", "data_type: WORDS", ":3: inputs.0.data_type: Input should be 'BOOL'"),
        ("dims: [-1]", "dims: []", "X has no dims; write [1] for a single value"),
        ("dims: [-1]", "dims: [0]", "X has a dim of 0"),
        ("dims: [-1]", "dims: [-2]", "inputs.0.dims.0"),
        ("inputs: [", "inputs: [{name: X, data_type: FP32, dims: [1]}, ", "'X' is listed twice"),
        ("name: Y, ", "name: Y, optional: true, ", "output Y can't be optional"),
        ("name: rules", "name: ../rules", ":1: name:"),
        ("rules/}", "rules/, pat: a}", "unknown key 'python.pat'; did you mean 'path'?"),
        ("rules/}", "rules/, environment: true}", "name it in requirements"),
        ("rules/}", 'rules/, python_version: "3.11"}', "add environment: true"),
        (
            "{path: rules/}",
            "{path: rules/, environment: true, requirements: r.txt}\n"
            "parameters: {EXECUTION_ENV_PATH: /env.tar.gz}",
            "EXECUTION_ENV_PATH is what environment: true sets",
        ),
        ("inputs:", "parameters: {a: 0.5}\ninputs:", 'as a string; write "0.5" in quotes'),
        ("inputs:", "parameters: {b: true}\ninputs:", 'as a string; write "true" in quotes'),
        (
            "inputs:",
            "model: {max_batch_size: 2, dynamic_batching: {preferred_batch_size: [4]}}\ninputs:",
            "preferred_batch_size 4 is larger than max_batch_size 2",
        ),
    ],
)
def test_a_spec_that_makes_no_sense(
    builder: Builder, rules: Path, tmp_path: Path, written: str, instead: str, sentence: str
) -> None:
    (tmp_path / "rules.yaml").write_text(SPEC.replace(written, instead, 1))
    error = refusal(builder, tmp_path)
    assert "rules.yaml" in error
    assert sentence in error


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (SOURCE + "def f(:\n", "model.py:7: is no Python 3"),
        ("x = 1\n", "model.py: has no class TritonPythonModel"),
        ("class Other:\n    def execute(self, requests): ...\n", "has no class TritonPythonModel"),
        (
            "import os\n\nclass TritonPythonModel:\n    def run(self, requests): ...\n",
            "model.py:3: TritonPythonModel has no method execute",
        ),
        ("class TritonPythonModel:\n    'nul \0'\n", "model.py:1: is no Python"),
    ],
)
def test_a_source_that_triton_would_refuse(
    builder: Builder, rules: Path, tmp_path: Path, source: str, sentence: str
) -> None:
    (rules / "model.py").write_text(source)
    assert sentence in refusal(builder, tmp_path)


def test_a_helper_that_is_no_python(builder: Builder, rules: Path, tmp_path: Path) -> None:
    (rules / "words.py").write_text("a = 1\nb = = 2\n")
    assert "words.py:2: is no Python" in refusal(builder, tmp_path)


def test_a_missing_folder(builder: Builder, rules: Path, tmp_path: Path) -> None:
    rules.rename(tmp_path / "elsewhere")
    assert f"{rules}: no such folder or file" in refusal(builder, tmp_path)


def test_a_folder_without_model_py_names_the_one_below(
    builder: Builder, rules: Path, tmp_path: Path
) -> None:
    (rules / "1").mkdir()
    (rules / "model.py").rename(rules / "1" / "model.py")
    error = refusal(builder, tmp_path)
    assert "has no model.py" in error
    assert error.endswith(f"write {rules / '1'}")


def test_a_file_of_another_kind(builder: Builder, rules: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.txt").write_text(SOURCE)
    (tmp_path / "rules.yaml").write_text(SPEC.replace("rules/", "rules.txt"))
    assert "rules.txt: is no .py file" in refusal(builder, tmp_path)


def test_a_name_that_the_builder_needs(builder: Builder, rules: Path, tmp_path: Path) -> None:
    (rules / "env.tar.gz").touch()
    (tmp_path / "r.txt").write_text("six\n")
    text = SPEC.replace("rules/}", "rules/, requirements: r.txt, environment: true}")
    (tmp_path / "rules.yaml").write_text(text)
    assert "the builder writes a file of that name; rename it" in refusal(builder, tmp_path)


def test_a_repository_inside_the_model(builder: Builder, rules: Path, tmp_path: Path) -> None:
    error = builder("build", tmp_path / "rules.yaml", "--output", rules / "out", "--no-cache")
    assert "the repository would be written into it" in error
    assert sorted(p.name for p in rules.iterdir() if not p.name.startswith(".")) == ["model.py"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_can_not_be_read(builder: Builder, rules: Path, tmp_path: Path) -> None:
    (rules / "secret.bin").touch(mode=0)
    assert "secret.bin: can't be read" in refusal(builder, tmp_path)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("-r other.txt", "r.txt:2: -r is an option of pip"),
        ("--index-url https://example.com", "r.txt:2: --index-url is an option of pip"),
        ("./wheels/a.whl", "r.txt:2: './wheels/a.whl' is no requirement"),
        ("six=1", "r.txt:2: 'six=1' is no requirement"),
    ],
)
def test_lines_that_are_no_requirements(
    builder: Builder, rules: Path, tmp_path: Path, line: str, sentence: str
) -> None:
    (tmp_path / "r.txt").write_text(f"inflection\n{line}\n")
    (tmp_path / "rules.yaml").write_text(SPEC.replace("rules/}", "rules/, requirements: r.txt}"))
    assert sentence in refusal(builder, tmp_path)


def test_a_missing_requirements_file(builder: Builder, rules: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(SPEC.replace("rules/}", "rules/, requirements: r.txt}"))
    assert f"{tmp_path / 'r.txt'}: no such requirements file" in refusal(builder, tmp_path)

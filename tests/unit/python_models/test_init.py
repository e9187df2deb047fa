"""What `builder init FOLDER` reads of a Python model, without running it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from builder.spec.load import load_any_spec
from builder.spec.python_model import PythonSpec
from tests.unit.python_models.conftest import SOURCE

Builder = Callable[..., str]

CONFIG = """backend: "python"
max_batch_size: 8
input { name: "TEXT" data_type: TYPE_STRING dims: [1] }
input { name: "TOP" data_type: TYPE_INT32 dims: [1] optional: true }
output { name: "LABEL" data_type: TYPE_STRING dims: [-1] }
model_transaction_policy { decoupled: true }
"""
COMPLETE = (
    SOURCE
    + """
    @staticmethod
    def auto_complete_config(config):
        shape = [-1]
        wanted = {"name": "X", "data_type": "TYPE_FP32", "dims": [4]}
        config.add_input(wanted)
        config.add_output({"name": "Y", "data_type": "TYPE_INT64", "dims": [1, -1]})
        config.set_max_batch_size(4)
        return config
"""
)


def init(builder: Builder, folder: Path, *options: object) -> tuple[PythonSpec, str]:
    output = folder.parent / "made.yaml"
    told = builder("init", folder, "--output", output, *options)
    spec = load_any_spec(output)
    assert isinstance(spec, PythonSpec)
    return spec, told


def tensors(spec: PythonSpec) -> list[tuple[str, str, list[int], bool]]:
    every = (*spec.inputs, *spec.outputs)
    return [(t.name, t.data_type, t.dims, t.optional) for t in every]


def test_a_config_beside_it(builder: Builder, rules: Path) -> None:
    (rules / "config.pbtxt").write_text(CONFIG)
    spec, told = init(builder, rules)
    assert tensors(spec) == [
        ("TEXT", "STRING", [1], False),
        ("TOP", "INT32", [1], True),
        ("LABEL", "STRING", [-1], False),
    ]
    assert (spec.name, spec.model.max_batch_size, spec.model.decoupled) == ("rules", 8, True)
    assert "nothing says" not in told


def test_a_folder_of_a_repository(builder: Builder, rules: Path) -> None:
    (rules / "1").mkdir()
    (rules / "model.py").rename(rules / "1" / "model.py")
    (rules / "config.pbtxt").write_text(CONFIG)
    spec, _ = init(builder, rules / "1")
    assert (spec.name, spec.inputs[0].name) == ("rules", "TEXT")


def test_auto_complete_config_that_is_written_out(builder: Builder, rules: Path) -> None:
    (rules / "model.py").write_text(COMPLETE)
    spec, told = init(builder, rules)
    assert tensors(spec) == [("X", "FP32", [4], False), ("Y", "INT64", [1, -1], False)]
    assert spec.model.max_batch_size == 4
    assert "nothing says" not in told


@pytest.mark.parametrize(
    "source",
    [
        SOURCE,
        COMPLETE.replace('"dims": [4]', '"dims": shape'),
        COMPLETE.replace('"dims": [4]', '"dims": 4'),
        COMPLETE.replace("config.add_output", "self.add_output_of"),
    ],
)
def test_what_reading_does_not_tell_is_asked_for(
    builder: Builder, rules: Path, source: str
) -> None:
    (rules / "model.py").write_text(source)
    spec, told = init(builder, rules)
    assert tensors(spec) == [("INPUT", "FP32", [-1], False), ("OUTPUT", "FP32", [-1], False)]
    assert "nothing says which tensors" in told
    assert "write them into inputs and outputs" in told


def test_requirements_and_a_single_file(builder: Builder, rules: Path, tmp_path: Path) -> None:
    (rules / "requirements.txt").write_text("six\n")
    spec, _ = init(builder, rules)
    assert spec.python.requirements == "rules/requirements.txt"
    assert not spec.python.environment
    (tmp_path / "made.yaml").unlink()
    (tmp_path / "score.py").write_text(COMPLETE)
    spec, _ = init(builder, tmp_path / "score.py", "--name", "s")
    assert (spec.name, spec.python.path) == ("s", "score.py")


def test_a_source_that_can_not_be_served_gets_no_spec(
    builder: Builder, rules: Path, tmp_path: Path
) -> None:
    (rules / "model.py").write_text("x = (")
    assert "model.py:1: is no Python" in builder("init", rules, "--output", tmp_path / "made.yaml")
    assert not (tmp_path / "made.yaml").exists()

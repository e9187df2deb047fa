"""What `builder build` publishes of a user's Python model."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.publish.manifest import read_manifest
from tests.unit.python_models.conftest import SOURCE, SPEC

Builder = Callable[..., str]


def build(builder: Builder, folder: Path, *options: object) -> str:
    spec, out = folder.with_suffix(".yaml"), folder.with_name("out")
    return builder("build", spec, "--output", out, "--no-cache", "--no-report", *options)


def test_files_are_copied_byte_for_byte_and_never_run(
    builder: Builder, rules: Path, tmp_path: Path
) -> None:
    (rules / "model.py").write_text(f"{SOURCE}\nraise SystemExit('it was run')\n")
    (rules / "tables").mkdir()
    (rules / "tables" / "a.bin").write_bytes(bytes(range(256)))
    (rules / "inner.txt").symlink_to("tables/a.bin")
    build(builder, rules)
    served = tmp_path / "out" / "rules" / "1"
    assert sorted(p.relative_to(served).as_posix() for p in served.rglob("*") if p.is_file()) == [
        "inner.txt",
        "model.py",
        "tables/a.bin",
    ]
    for name in ("model.py", "tables/a.bin"):
        assert (served / name).read_bytes() == (rules / name).read_bytes()
    assert not (served / "inner.txt").is_symlink()
    assert (served / "inner.txt").read_bytes() == bytes(range(256))
    source = read_manifest(tmp_path / "out").only.source.files
    assert source["model.py"] == hashlib.sha256((rules / "model.py").read_bytes()).hexdigest()
    assert set(source) == {"inner.txt", "model.py", "tables/a.bin"}


def test_what_does_not_go_with_the_model_is_said(
    builder: Builder, rules: Path, tmp_path: Path
) -> None:
    (rules / "__pycache__").mkdir()
    (rules / "__pycache__" / "model.cpython-311.pyc").touch()
    (rules / "old.pyc").touch()
    (tmp_path / "secret").write_text("outside")
    (rules / "secret").symlink_to(tmp_path / "secret")
    (rules / "gone").symlink_to("nowhere")
    (rules / "config.pbtxt").write_text('backend: "python"')
    told = build(builder, rules)
    for name, why in {
        "__pycache__": "compiled sources",
        "old.pyc": "compiled sources",
        "secret": "a link to what lies outside",
        "gone": "a link to a folder, or to nothing",
        "config.pbtxt": "the builder writes it from the spec",
    }.items():
        assert f"rules: left out rules/{name} ({why})" in told
    assert [p.name for p in (tmp_path / "out" / "rules" / "1").iterdir()] == ["model.py"]


def test_a_single_file_becomes_model_py(builder: Builder, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text(SOURCE)
    (tmp_path / "rules.yaml").write_text(SPEC.replace("rules/", "score.py"))
    build(builder, tmp_path / "rules")
    served = tmp_path / "out" / "rules" / "1"
    assert [p.name for p in served.iterdir()] == ["model.py"]
    assert (served / "model.py").read_text() == SOURCE


@pytest.mark.parametrize(
    "source",
    [
        "from rules_of_ours import TritonPythonModel\n",
        "from rules_of_ours import *\n",
        "import rules_of_ours\nTritonPythonModel = rules_of_ours.make()\n",
        "from base import Base\nclass TritonPythonModel(Base):\n    pass\n",
    ],
)
def test_a_class_that_reading_does_not_show_is_taken(
    builder: Builder, rules: Path, tmp_path: Path, source: str
) -> None:
    (rules / "model.py").write_text(source)
    build(builder, rules)
    assert (tmp_path / "out" / "rules" / "1" / "model.py").read_text() == source


def test_the_config_is_what_the_spec_says(builder: Builder, rules: Path, tmp_path: Path) -> None:
    text = SPEC.replace("dims: [-1]}]\noutputs", "dims: [-1], optional: true}]\noutputs")
    (tmp_path / "rules.yaml").write_text(
        f"{text}model: {{max_batch_size: 4, dynamic_batching: {{}}, decoupled: true, "
        'instances: {count: 2}}\nparameters: {threshold: "0.5"}\n'
    )
    build(builder, rules)
    config = (tmp_path / "out" / "rules" / "config.pbtxt").read_text()
    flat = re.sub(r"\s+", " ", config)
    for part in (
        'backend: "python"',
        "max_batch_size: 4",
        'name: "X" data_type: TYPE_FP32 dims: [-1] optional: true',
        "count: 2",
        "dynamic_batching {",
        "decoupled: true",
        'key: "threshold" value { string_value: "0.5" }',
    ):
        assert part in flat


def test_requirements_become_those_of_the_repository(
    builder: Builder, rules: Path, tmp_path: Path
) -> None:
    (tmp_path / "needs.txt").write_text(
        "# ours\ninflection==0.5.1  # words\n\nsix>=1 ; python_version>'3'\n"
    )
    (tmp_path / "rules.yaml").write_text(
        SPEC.replace("{path: rules/}", "{path: rules/, requirements: needs.txt}")
    )
    build(builder, rules)
    lines = (tmp_path / "out" / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "inflection==0.5.1",
        "numpy>=1.26,<2",
        "six>=1 ; python_version>'3'",
    ]
    assert "needs.txt" in read_manifest(tmp_path / "out").only.source.files


def test_a_report_needs_no_parity(builder: Builder, rules: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = builder("build", tmp_path / "rules.yaml", "--output", out, "--no-cache")
    assert "Parity" not in told
    assert read_manifest(out).only.parity == []
    report = (tmp_path / "out-report" / "report.md").read_text()
    assert "Nothing was compared" in report
    assert report.startswith("# rules\n\npython, built for Triton")
    assert "From `rules/`" in report


def test_render_and_validate_know_it(builder: Builder, rules: Path, tmp_path: Path) -> None:
    build(builder, rules)
    assert builder("render", tmp_path / "rules.yaml", "--output", tmp_path / "out", "--check") == ""
    told = builder("validate", tmp_path / "out", "--format", "json")
    assert [f for f in json.loads(told)["findings"] if f.get("severity", "error") == "error"] == []


def test_it_is_a_member_like_any_other(builder: Builder, rules: Path, tmp_path: Path) -> None:
    """A second build keeps the bytes of the first, and a repository spec may hold both."""
    build(builder, rules)
    out = tmp_path / "out"
    before = {p: p.read_bytes() for p in (out / "rules").rglob("*") if p.is_file()}
    (tmp_path / "more.yaml").write_text(SPEC.replace("name: rules", "name: more"))
    builder("build", tmp_path / "more.yaml", "--output", out, "--no-cache", "--no-report")
    assert before == {p: p.read_bytes() for p in (out / "rules").rglob("*") if p.is_file()}
    assert set(read_manifest(out).members) == {"rules", "more"}
    (tmp_path / "both.yaml").write_text(
        "name: both\ntarget: gpu\nmembers:\n  - rules.yaml\n"
        "  - {name: also, python: {path: rules/}, inputs: [{name: Y, data_type: FP32, dims: [-1]}],"
        " outputs: [{name: Z, data_type: FP32, dims: [-1]}]}\n"
        "ensembles:\n  - name: chain\n    steps:\n"
        "      - {model: rules, in: {X: X}, out: {Y: y}}\n"
        "      - {model: also, in: {Y: y}, out: {Z: Z}}\n"
    )
    builder(
        "build", tmp_path / "both.yaml", "--output", tmp_path / "b", "--no-cache", "--no-report"
    )
    assert set(read_manifest(tmp_path / "b").members) == {"rules", "also", "chain"}
    assert "KIND_GPU" in (tmp_path / "b" / "also" / "config.pbtxt").read_text()

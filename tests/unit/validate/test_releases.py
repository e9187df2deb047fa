"""Rules that go by the release."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from builder.cli import main
from builder.validate import Target, validate_repository
from builder.validate.onnx_graph import read_signature

from .conftest import MODEL_PY, Write

ON_CPU = "instance_group { kind: KIND_CPU }"


def errors(root: Path, release: str) -> list[tuple[str, str]]:
    found = validate_repository(root, Target(release=release))
    return [(f.rule, f.message) for f in found if f.severity == "error"]


def onnx_file(node: onnx.NodeProto, opsets: Mapping[str, int], *more: onnx.NodeProto) -> bytes:
    """A model of these nodes from X to Y."""
    dims = ["n", 4]
    graph = helper.make_graph(
        [node, *more],
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, dims)],
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    data: bytes = model.SerializeToString()
    return data


NBITS = helper.make_node(
    "MatMulNBits", ["X"], ["Y"], domain="com.microsoft", K=4, N=4, bits=8, block_size=16
)
TREES = helper.make_node("TreeEnsemble", ["X"], ["Y"], domain="ai.onnx.ml")
LINEAR = helper.make_node("LinearAttention", ["X"], ["Y"], domain="com.microsoft")
RELU = helper.make_node("Relu", ["X"], ["Y"])
CASES = {
    "bits": (NBITS, {"": 17, "com.microsoft": 1}, "25.07", "25.08", "bits 8"),
    "kernel": (TREES, {"": 17, "ai.onnx.ml": 5}, "25.02", "25.03", "TreeEnsemble"),
    "contrib operator": (LINEAR, {"": 17, "com.microsoft": 1}, "26.06", "26.07", "LinearAttention"),
    "opset": (RELU, {"": 25}, "26.01", "26.02", "opset 25 of ai.onnx (at most 23)"),
}


@pytest.mark.parametrize("case", CASES)
def test_an_onnx_file_is_judged_by_the_releases_onnx_runtime(case: str, write: Write) -> None:
    node, opsets, refuses, loads, told = CASES[case]
    config = f'backend: "onnxruntime" {ON_CPU}'
    root = write({"m/config.pbtxt": config, "m/1/model.onnx": onnx_file(node, opsets)})
    ((rule, message),) = errors(root, refuses)
    assert rule == "onnx.release"
    assert told in message
    assert refuses in message
    assert errors(root, loads) == []


def test_custom_operators_may_come_from_a_library(write: Write) -> None:
    custom = onnx_file(helper.make_node("F", ["X"], ["Y"], domain="my"), {"": 17, "my": 1})
    config = 'backend: "onnxruntime"'
    root = write({"m/config.pbtxt": config, "m/1/model.onnx": custom})
    assert [rule for rule, _ in errors(root, "26.07")] == ["onnx.release"]
    library = config + ' model_operations { op_library_filename: "ops.so" }'
    (root / "m" / "config.pbtxt").write_text(library)
    assert "onnx.release" not in [rule for rule, _ in errors(root, "26.07")]


def test_operators_are_found_in_graphs_and_beside_large_constants(tmp_path: Path) -> None:
    large = numpy_helper.from_array(np.zeros(100_000, np.float32))
    constant = helper.make_node("Constant", [], ["c"], value=large)
    inner = helper.make_graph(
        [constant, helper.make_node("Mish", ["X"], ["z"])],
        "inner",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )
    flag = helper.make_tensor("v", TensorProto.BOOL, [], [True])
    condition = helper.make_node("Constant", [], ["c"], value=flag)
    node = helper.make_node("If", ["c"], ["Y"], then_branch=inner, else_branch=inner)
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_file(condition, {"": 18}, node))
    uses = read_signature(path).uses
    assert {use.operator for use in uses} == {"If", "Constant", "Mish"}
    names = {name for use in uses for name, _ in use.attributes}
    assert names == {"value", "then_branch", "else_branch"}


def test_a_negative_version_is_an_error_where_it_is_loaded(write: Write) -> None:
    files = {"m/config.pbtxt": 'backend: "python"', "m/-1/model.py": MODEL_PY}
    root = write(files)
    ((rule, message),) = errors(root, "24.10")
    assert rule == "artifact.negative-version"
    assert "never become ready" in message
    (root / "m" / "1").mkdir()
    (root / "m" / "1" / "model.py").write_text(MODEL_PY)
    assert errors(root, "24.10") == []  # the policy takes the latest alone
    (root / "m" / "config.pbtxt").write_text('backend: "python" version_policy { all {} }')
    assert [rule for rule, _ in errors(root, "24.10")] == ["artifact.negative-version"]


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["builder", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_the_command_goes_by_the_manifest(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A field that 24.10 lacks: an error for a repository that was built for 24.10."""
    metrics = (
        'model_metrics { metric_control { metric_identifier { family: "f" } '
        "histogram_options { buckets: 1 } } }"
    )
    root = write({"m/config.pbtxt": f'backend: "python" {metrics}', "m/1/model.py": MODEL_PY})
    assert run(monkeypatch, capsys, "validate", root)[0] == 0
    (root / "manifest.json").write_text(json.dumps({"spec": {"triton_release": "24.10"}}))
    assert run(monkeypatch, capsys, "validate", root)[0] == 1
    assert run(monkeypatch, capsys, "validate", root, "--release", "24.11")[0] == 0


def test_a_release_under_the_floor_is_advice_and_an_error_where_asked(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write({"m/config.pbtxt": 'backend: "python"', "m/1/model.py": MODEL_PY})
    command = ["validate", root, "--format", "json", "--release"]
    for release, strict, code in (
        ("26.07", ["--strict"], 0),
        ("26.06", [], 0),
        ("26.02", [], 0),
        ("26.02", ["--strict"], 1),
    ):
        status, out, _ = run(monkeypatch, capsys, *command, release, *strict)
        assert status == code
        findings = json.loads(out)["findings"]
        assert [f["rule"] for f in findings] == ["release.security"] * (release != "26.07")
        for finding in findings:
            assert finding["severity"] == ("error" if strict else "advice")
            assert ("CVE-2026-47627" in finding["message"]) == (release == "26.02")


@pytest.mark.parametrize("release", ["26.13", "24.08", "x"])
def test_an_unknown_release_is_one_sentence(
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    release: str,
) -> None:
    root = write({"m/config.pbtxt": 'backend: "python"', "m/1/model.py": MODEL_PY})
    status, out, err = run(monkeypatch, capsys, "validate", root, "--release", release)
    assert (status, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert release in err


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"m/-1/model.py": MODEL_PY}, "'-1' is version -1"),
        ({"m/1": None}, "no file model.py"),
    ],
)
def test_serve_refuses_what_it_would_wait_for_for_ever(
    files: Mapping[str, str | None],
    told: str,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = write({"m/config.pbtxt": 'backend: "python"', **files})
    status, _, err = run(monkeypatch, capsys, "serve", root)
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert told in err
    assert "never become ready" in err

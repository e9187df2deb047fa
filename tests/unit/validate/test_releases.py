"""Rules that go by the release."""

import json
import sys
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from tritonclient.grpc import model_config_pb2 as pb

from builder.cli import main
from builder.cli.local_server import introduce
from builder.validate import Target, load_models, validate_repository
from builder.validate.onnx_graph import read_signature
from builder.validate.shapes import size_problem

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
    member = {"live": 1, "versions": {"1": {"spec": {"triton_release": "24.10"}}}}
    (root / "manifest.json").write_text(json.dumps({"members": {"m": member}}))
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


@pytest.mark.parametrize(
    ("release", "files", "config", "accepted", "platform", "filename"),
    [
        # No config: what lies in the folder tells the backend.
        ("26.02", ["model.pt2"], "", False, "", ""),
        ("26.03", ["model.pt2"], "", False, "pytorch_libtorch", "model.pt"),
        ("26.04", ["model.pt2"], "", True, "torch_aoti", "model.pt2"),
        ("26.04", ["model.pt", "model.pt2"], "", True, "pytorch_libtorch", ""),
        ("24.10", ["model.pt"], "", True, "pytorch_libtorch", "model.pt"),
        # The platform is told.
        ("26.02", ["model.pt2"], 'platform: "torch_aoti"', False, "torch_aoti", ""),
        ("26.04", ["model.pt2"], 'platform: "torch_aoti"', True, "torch_aoti", "model.pt2"),
        (
            "26.04",
            ["model.pt2"],
            'backend: "pytorch" platform: "torch_aoti"',
            True,
            "torch_aoti",
            "model.pt2",
        ),
        # A Python runtime that the backend has.
        (
            "24.10",
            ["model.py"],
            'backend: "pytorch" runtime: "model.py"',
            True,
            "pytorch_libtorch",
            "",
        ),
    ],
)
def test_pytorch_models_by_release(
    release: str,
    files: list[str],
    config: str,
    accepted: bool,
    platform: str,
    filename: str,
    write: Write,
) -> None:
    root = write({"m/config.pbtxt": config, **{f"m/1/{name}": "x" for name in files}})
    model = load_models(root, Target(release=release))["m"]
    assert (model.config.platform, model.config.default_model_filename) == (platform, filename)
    assert (errors(root, release) == []) == accepted


def test_tensorflow_is_gone_since_25_03(write: Write) -> None:
    config = 'platform: "tensorflow_savedmodel"'
    root = write({"m/config.pbtxt": config, "m/1/model.savedmodel": None})
    assert errors(root, "25.02") == []
    assert [rule for rule, _ in errors(root, "25.03")] == ["backend.unknown"]


LABELS = """backend: "python"
output { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "%s" }"""


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("labels.txt", {"24.10", "26.02", "26.05", "26.06"}),
        ("/labels.txt", {"24.10", "26.02", "26.05", "26.06"}),  # joined as text
        ("../m/labels.txt", {"24.10", "26.02", "26.05", "26.06"}),
        ("../m2/labels.txt", {"24.10", "26.02", "26.05"}),  # "m2" begins like "m"
        ("../n/labels.txt", {"24.10"}),
        ("link.txt", {"24.10"}),  # to ../n/labels.txt
        ("labels.txt/.", set()),
    ],
)
def test_label_files_by_release(name: str, accepted: set[str], write: Write) -> None:
    files = {f"{model}/labels.txt": "a\n" for model in ("m", "m2", "n")}
    files |= {f"{model}/1/model.py": MODEL_PY for model in ("m", "m2", "n")}
    files |= {f"{model}/config.pbtxt": 'backend: "python"' for model in ("m2", "n")}
    root = write({**files, "m/config.pbtxt": LABELS % name, "m/link.txt": "->../n/labels.txt"})
    for release in ("24.10", "26.02", "26.05", "26.06"):
        assert (errors(root, release) == []) == (release in accepted), release


MOST = (1 << 63) - 1


@pytest.mark.parametrize(
    ("dims", "size", "told"),
    [
        ([1 << 31, 1 << 31], 1, ""),
        ([1 << 32, 1 << 31], 1, "elements"),
        ([MOST], 1, ""),
        ([MOST], 4, "bytes"),
        ([-1, 1 << 40, 1 << 40], 1, ""),
        ([1 << 40, 1 << 40, -1], 1, "elements"),  # the look ends at the overflow
        ([1 << 40, 0, 1 << 40], 1, ""),
        ([3, -2], 1, "dim -2"),
        ([], 8, ""),
        ([1 << 40, 1 << 40], 0, ""),
    ],
)
def test_elements_and_bytes_in_64_bits(dims: list[int], size: int, told: str) -> None:
    found = size_problem(dims, size)
    assert told in found
    assert bool(told) == bool(found)


@pytest.mark.parametrize(
    "config",
    [
        f"input {{ name: 'X' data_type: TYPE_FP32 dims: [ {1 << 62}, 4 ] }}",
        f"output {{ name: 'Y' data_type: TYPE_FP32 dims: [ {1 << 62}, 4 ] "
        f"reshape {{ shape: [ {1 << 62}, 4 ] }} }}",
        f"sequence_batching {{ state {{ input_name: 'S' output_name: 'T' "
        f"data_type: TYPE_STRING dims: [ {1 << 62} ] }} }}",
    ],
)
def test_sizes_that_overflow_by_release(config: str, write: Write) -> None:
    root = write({"m/config.pbtxt": f'backend: "python" {config}', "m/1/model.py": MODEL_PY})
    assert "tensor.size" not in [rule for rule, _ in errors(root, "26.02")]
    assert "tensor.size" in [rule for rule, _ in errors(root, "26.03")]


def test_bfloat16_since_26_03(write: Write) -> None:
    tensors = [helper.make_tensor_value_info(n, TensorProto.BFLOAT16, ["n", 4]) for n in "XY"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["X"], ["Y"])], "g", *([tensor] for tensor in tensors)
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    root = write(
        {
            "m/config.pbtxt": 'backend: "onnxruntime"',
            "m/1/model.onnx": bytes(model.SerializeToString()),
        }
    )
    assert errors(root, "26.02") != []
    assert errors(root, "26.03") == []
    config = load_models(root, Target(release="26.03"))["m"].config
    assert config.input[0].data_type == pb.TYPE_BF16


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        ("127.0.0.1", False),
        ("127.0.0.9", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("::", True),
        ("192.168.0.1", True),
        ("example.org", True),
    ],
)
def test_serve_says_what_the_local_server_is(host: str, warned: bool, write: Write) -> None:
    metrics = (
        'model_metrics { metric_control { metric_identifier { family: "f" } '
        "histogram_options { buckets: 1 } } }"
    )
    root = write({"m/config.pbtxt": f'backend: "python" {metrics}', "m/1/model.py": MODEL_PY})
    console = Console(record=True, width=1000, file=StringIO())
    introduce(console, root, host)
    told = console.export_text()
    assert "Triton 24.10 (2.51.0)" in told
    assert "tritonserver:26.07-py3" in told
    assert "does not know the field 'model_metrics'" in told
    assert ("CVE-2026-24207" in told) == warned
    assert (f"--host {host}" in told) == warned

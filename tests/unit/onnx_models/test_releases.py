"""A file from anywhere, fitted to what a release loads."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from builder.spec.onnx_file import OnnxSpec
from tests.unit.onnx_models.graphs import save

Init = Callable[[Path], OnnxSpec]
Builder = Callable[..., str]


def save_nodes(
    path: Path, nodes: list[onnx.NodeProto], opsets: dict[str, int], **weights: object
) -> Path:
    """A file with these nodes from x [n, 4] to y [n, 4]."""
    dims = ["n", 4]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, dims)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    onnx.save(model, str(path))
    return path


def opsets(path: Path) -> dict[str, int]:
    model = onnx.load(str(path), load_external_data=False)
    return {one.domain: one.version for one in model.opset_import}


def test_an_import_that_no_operator_needs_is_lowered(
    init: Init, builder: Builder, tmp_path: Path
) -> None:
    """Relu is the same in opset 24 and 21: nothing is converted."""
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    init(save_nodes(tmp_path / "f.onnx", nodes, {"": 24}))
    command = ["build", tmp_path / "f.yaml", "--output", tmp_path / "out"]
    assert builder(*command, "--release", "24.10") == ""
    published = tmp_path / "out" / "f" / "1" / "model.onnx"
    assert opsets(published) == {"": 21}
    x = np.array([[-1, 2, -3, 4]], np.float32)
    session = ort.InferenceSession(str(published), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], np.maximum(x, 0))


def test_eight_bits_are_refused_for_a_release_that_has_four(
    init: Init, builder: Builder, tmp_path: Path
) -> None:
    node = helper.make_node(
        "MatMulNBits",
        ["x", "w", "s"],
        ["y"],
        domain="com.microsoft",
        **{"K": 4, "N": 4, "bits": 8, "block_size": 16},
    )
    weights = {"w": np.zeros((4, 1, 16), np.uint8), "s": np.ones(4, np.float32)}
    init(save_nodes(tmp_path / "f.onnx", [node], {"": 17, "com.microsoft": 1}, **weights))
    command = ["build", tmp_path / "f.yaml", "--output", tmp_path / "out"]
    error = builder(*command, "--release", "25.07")
    assert "bits 8 of com.microsoft::MatMulNBits (4)" in error
    assert "ONNX Runtime 1.22.0" in error
    assert not (tmp_path / "out").exists()
    assert builder(*command, "--release", "25.08") == ""


@pytest.mark.parametrize("release", ["24.08", "26.13", "new"])
def test_an_unknown_release(init: Init, builder: Builder, tmp_path: Path, release: str) -> None:
    init(save(tmp_path, "rows"))
    command = ["build", tmp_path / "rows.yaml", "--output", tmp_path / "out"]
    assert release in builder(*command, "--release", release)
    text = (tmp_path / "rows.yaml").read_text()
    assert 'triton_release: "26.07"' in text
    (tmp_path / "rows.yaml").write_text(text.replace("26.07", release))
    assert "triton_release" in builder(*command)
    assert not (tmp_path / "out").exists()

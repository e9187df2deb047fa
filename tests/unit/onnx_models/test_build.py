"""What `builder build` publishes of a file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from builder.publish.manifest import read_manifest
from builder.spec.onnx_file import OnnxSpec
from tests.unit.onnx_models.graphs import GRAPHS, graph, save, save_external

Init = Callable[[Path], OnnxSpec]
Builder = Callable[..., str]


@pytest.mark.parametrize("name", sorted(set(GRAPHS) - {"sequence_in", "sequence_out"}))
def test_a_file_that_fits_is_copied_byte_for_byte(
    init: Init, builder: Builder, tmp_path: Path, name: str
) -> None:
    path = save(tmp_path, name)
    init(path)
    assert builder("build", tmp_path / f"{name}.yaml", "--output", tmp_path / "out") == ""
    assert (tmp_path / "out" / name / "1" / "model.onnx").read_bytes() == path.read_bytes()
    rows = read_manifest(tmp_path / "out").only.parity
    assert rows
    assert all(row["passed"] for row in rows)


def test_weights_beside_the_file_go_with_it(init: Init, builder: Builder, tmp_path: Path) -> None:
    init(save_external(tmp_path, "embedding"))
    assert builder("build", tmp_path / "embedding.yaml", "--output", tmp_path / "out") == ""
    folder = tmp_path / "out" / "embedding" / "1"
    data = (folder / "weights" / "all.data").read_bytes()
    assert data == (tmp_path / "weights" / "all.data").read_bytes()
    assert set(read_manifest(tmp_path / "out").only.source.files) == {
        "embedding.onnx",
        "weights/all.data",
    }


def test_a_younger_opset_and_ir_are_converted(init: Init, builder: Builder, tmp_path: Path) -> None:
    path = save(tmp_path, "rows", opset=24, ir=12)
    init(path)
    command = ["build", tmp_path / "rows.yaml", "--output", tmp_path / "out"]
    assert builder(*command, "--release", "24.10") == ""
    published = tmp_path / "out" / "rows" / "1" / "model.onnx"
    model = onnx.load(str(published))
    assert (model.opset_import[0].version, model.ir_version) == (21, 10)
    assert read_manifest(tmp_path / "out").only.spec["triton_release"] == "24.10"
    values = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    wanted, got = (
        ort.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(None, {"x": values})
        for file in (path, published)
    )
    np.testing.assert_array_equal(got[0], wanted[0])


def test_outputs_that_triton_can_not_serve_are_cut(
    init: Init, builder: Builder, tmp_path: Path
) -> None:
    init(save(tmp_path, "sequence_out"))
    assert builder("build", tmp_path / "sequence_out.yaml", "--output", tmp_path / "out") == ""
    model = onnx.load(str(tmp_path / "out" / "sequence_out" / "1" / "model.onnx"))
    assert [value.name for value in model.graph.output] == ["y"]


def test_a_scalar_a_row_is_reshaped(init: Init, builder: Builder, tmp_path: Path) -> None:
    init(save(tmp_path, "lengths"))
    assert builder("build", tmp_path / "lengths.yaml", "--output", tmp_path / "out") == ""
    text = (tmp_path / "out" / "lengths" / "config.pbtxt").read_text()
    assert text.count("reshape { shape: [] }") == 2


def test_dims_that_only_an_optimizer_finds_are_written_into_the_file(
    init: Init, builder: Builder, tmp_path: Path
) -> None:
    model = graph("fixed")
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "found"
    onnx.save(model, str(tmp_path / "found.onnx"))
    assert init(tmp_path / "found.onnx").outputs[0].dims == [2, 4]
    assert builder("build", tmp_path / "found.yaml", "--output", tmp_path / "out") == ""
    published = onnx.load(str(tmp_path / "out" / "found" / "1" / "model.onnx"))
    assert published.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 4


def test_render_needs_no_file(init: Init, builder: Builder, tmp_path: Path) -> None:
    path = save(tmp_path, "rows")
    init(path)
    path.unlink()
    spec, out = tmp_path / "rows.yaml", tmp_path / "out"
    assert builder("render", spec, "--output", out) == ""
    assert builder("render", spec, "--output", out, "--check") == ""

"""What `builder init FILE.onnx` finds out of a file."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from builder.spec.onnx_file import OnnxSpec
from tests.unit.onnx_models.graphs import graph, save

Init = Callable[[Path], OnnxSpec]


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("rows", 16),
        ("strings", 16),
        ("halves", 16),
        ("bools", 16),
        ("lengths", 16),
        ("embedding", 16),
        ("time", 0),
        ("fixed", 0),
        ("state", 0),
        ("compared", 0),
        ("random", 0),
    ],
)
def test_a_batch_dim_is_one_whose_rows_are_independent(
    init: Init, tmp_path: Path, name: str, most: int
) -> None:
    assert init(save(tmp_path, name)).model.max_batch_size == most


def test_a_batch_dim_needs_no_name(init: Init, tmp_path: Path) -> None:
    model = graph("rows")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].ClearField("dim_param")
    onnx.save(model, str(tmp_path / "unnamed.onnx"))
    spec = init(tmp_path / "unnamed.onnx")
    assert spec.model.max_batch_size == 16
    assert [tensor.dims for tensor in (*spec.inputs, *spec.outputs)] == [[4], [4]]


def test_dims_types_and_names_are_the_files(init: Init, tmp_path: Path) -> None:
    spec = init(save(tmp_path, "state"))
    found = {tensor.name: (tensor.data_type, tensor.dims) for tensor in spec.inputs}
    assert found == {"x": ("FP32", [-1, 4]), "h": ("FP32", [2, -1, 4]), "rate": ("INT64", [])}
    assert [(t.name, t.dims) for t in spec.outputs] == [("y", [-1, 4])]


def test_integers_stay_in_the_table_that_they_index(init: Init, tmp_path: Path) -> None:
    assert init(save(tmp_path, "embedding")).verify.ranges == {"ids": (0, 9)}


def test_an_integer_that_is_compared_takes_the_value(init: Init, tmp_path: Path) -> None:
    assert init(save(tmp_path, "compared")).verify.ranges == {"sr": (16000, 16000)}


def test_lengths_are_no_longer_than_what_they_measure(init: Init, tmp_path: Path) -> None:
    spec = init(save(tmp_path, "lengths"))
    assert spec.verify.ranges["lengths"] == (1, spec.verify.dims["s"])


def test_outputs_that_are_no_tensors_are_left_out(init: Init, tmp_path: Path) -> None:
    spec = init(save(tmp_path, "sequence_out"))
    assert [tensor.name for tensor in spec.outputs] == ["y"]
    assert "'z' is a seq" in (tmp_path / "sequence_out.yaml").read_text()


def test_an_input_with_an_initializer_is_optional_where_nothing_is_joined(
    init: Init, tmp_path: Path
) -> None:
    batched = init(save(tmp_path, "optional"))
    assert [tensor.name for tensor in batched.inputs] == ["x"]
    model = graph("optional")
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    onnx.save(model, str(tmp_path / "fixed_optional.onnx"))
    found = {
        tensor.name: tensor.optional for tensor in init(tmp_path / "fixed_optional.onnx").inputs
    }
    assert found == {"x": False, "bias": True}


def test_random_graphs_are_said_to_be(init: Init, tmp_path: Path) -> None:
    assert init(save(tmp_path, "random")).verify.random
    assert not init(save(tmp_path, "rows")).verify.random


def test_the_spec_names_the_file_by_hash(init: Init, tmp_path: Path) -> None:
    spec = init(save(tmp_path, "rows"))
    assert spec.onnx.path == "rows.onnx"
    assert spec.onnx.sha256 is not None


def test_zip_map_is_named_with_what_to_do(builder: Callable[..., str], tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "ai.onnx.ml": 3]>
    agraph (float[n, 3] x) => (float[n, 3] y, float[n, 3] z)
    { y = Softmax(x)  z = ai.onnx.ml.ZipMap<classlabels_int64s = [0, 1, 2]>(y) }"""
    model = onnx.parser.parse_model(text)
    maps = onnx.helper.make_map_type_proto(
        onnx.TensorProto.INT64, onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [])
    )
    model.graph.output[1].type.CopyFrom(onnx.helper.make_sequence_type_proto(maps))
    onnx.save(model, str(tmp_path / "f.onnx"))
    assert builder("init", tmp_path / "f.onnx", "--output", tmp_path / "spec.yaml") == ""
    written = (tmp_path / "spec.yaml").read_text()
    assert "'z' is a sequence of maps, as ZipMap gives" in written
    assert "options={'zipmap': False}" in written

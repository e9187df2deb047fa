"""A file that can't be served is one sentence and exit 2; nothing is published."""

import pickle
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from tests.unit.onnx_models.graphs import graph, save, save_external

Builder = Callable[..., str]


def _custom(folder: Path) -> Path:
    model = graph("rows")
    model.graph.node[0].domain = "my.ops"
    model.opset_import.add(domain="my.ops", version=1)
    onnx.save(model, str(folder / "f.onnx"))
    return folder / "f.onnx"


def _unknown(folder: Path) -> Path:
    model = graph("rows")
    model.graph.node[0].op_type = "Rellu"
    onnx.save(model, str(folder / "f.onnx"))
    return folder / "f.onnx"


def _not_implemented(folder: Path) -> Path:
    model = graph("rows")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.BOOL
    model.graph.node[0].op_type = "Relu"
    onnx.save(model, str(folder / "f.onnx"))
    return folder / "f.onnx"


def _bfloat16(folder: Path) -> Path:
    model = graph("rows")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16
    model.graph.node[0].op_type = "Identity"
    onnx.save(model, str(folder / "f.onnx"))
    return folder / "f.onnx"


def _cut(folder: Path) -> Path:
    path = save(folder, "embedding")
    path.write_bytes(path.read_bytes()[:-30])
    return path


def _pickle(folder: Path) -> Path:
    (folder / "f.onnx").write_bytes(pickle.dumps({"weights": [1, 2]}))
    return folder / "f.onnx"


def _empty(folder: Path) -> Path:
    (folder / "f.onnx").touch()
    return folder / "f.onnx"


def _no_weights(folder: Path) -> Path:
    path = save_external(folder, "embedding")
    (folder / "weights" / "all.data").unlink()
    return path


def _outside(folder: Path) -> Path:
    path = save_external(folder, "embedding")
    model = onnx.load(str(path), load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../../etc/passwd"
    path.write_bytes(model.SerializeToString())
    return path


MISTAKES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no file": (lambda folder: folder / "none.onnx", "no such file"),
    "an empty file": (_empty, "damaged"),
    "a pickle": (_pickle, "no ONNX file, or a damaged one"),
    "a cut file": (_cut, "no ONNX file, or a damaged one"),
    "a custom op": (_custom, "is the custom op my.ops::Relu, which ONNX Runtime does not have"),
    "an unknown op": (_unknown, "is Rellu, which is no ONNX op"),
    "an op for other types": (_not_implemented, "f.onnx: "),
    "bfloat16": (_bfloat16, "is of type bfloat16, which Triton's ONNX"),
    "a sequence": (lambda f: save(f, "sequence_in"), "input 'x' is a seq"),
    "no weights": (_no_weights, "weights/all.data are missing"),
    "weights elsewhere": (_outside, "outside its own folder"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_init_says_what_is_wrong(builder: Builder, tmp_path: Path, mistake: str) -> None:
    make, sentence = MISTAKES[mistake]
    error = builder("init", make(tmp_path), "--output", tmp_path / "spec.yaml")
    assert sentence in error
    assert not (tmp_path / "spec.yaml").exists()


SPECS = {
    "another file": (f"sha256: {'0' * 63}f", "", "sha256 differs"),
    "no such output": ("", "- {name: z, data_type: FP32, dims: [4]}", "no output 'z'"),
    "another type": ("", "- {name: y, data_type: FP16, dims: [4]}", "not FP16"),
    "other dims": ("", "- {name: y, data_type: FP32, dims: [5]}", "not FP32 [5]"),
}


@pytest.mark.parametrize("mistake", SPECS)
def test_build_says_what_is_wrong(builder: Builder, tmp_path: Path, mistake: str) -> None:
    more, output, sentence = SPECS[mistake]
    save(tmp_path, "rows")
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"name: rows\nonnx: {{path: rows.onnx, {more}}}\nmodel: {{max_batch_size: 4}}\n"
        "inputs:\n- {name: x, data_type: FP32, dims: [4]}\n"
        f"outputs:\n{output or '- {name: y, data_type: FP32, dims: [4]}'}\n"
    )
    error = builder("build", spec, "--output", tmp_path / "repository")
    assert sentence in error
    assert not (tmp_path / "repository").exists()


def test_a_batch_size_over_rows_that_depend_on_each_other(builder: Builder, tmp_path: Path) -> None:
    save(tmp_path, "time")
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "name: time\nonnx: {path: time.onnx}\nmodel: {max_batch_size: 4}\n"
        "inputs:\n- {name: x, data_type: FP32, dims: [4]}\n"
        "outputs:\n- {name: y, data_type: FP32, dims: [4]}\n"
    )
    error = builder("build", spec, "--output", tmp_path / "repository")
    assert "y of a row depends on the other rows" in error


def test_an_opset_that_can_not_be_converted(
    builder: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The op exists only in an opset that the release does not have.
    text = """<ir_version: 10, opset_import: ["": 23]>
    agraph (float[n, 4] x, float[n, 4] w) => (float[n, 4] y) { y = RMSNormalization(x, w) }"""
    model = onnx.parser.parse_model(text)
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 4
    del model.graph.input[1].type.tensor_type.shape.dim[1:]
    onnx.save(model, str(tmp_path / "f.onnx"))
    assert builder("init", tmp_path / "f.onnx", "--output", tmp_path / "spec.yaml") == ""
    command = ["build", tmp_path / "spec.yaml", "--output", tmp_path / "repository"]
    error = builder(*command, "--release", "24.10")
    assert "has opset 23, ONNX Runtime 1.19.2 loads up to 21" in error
    assert not (tmp_path / "repository").exists()

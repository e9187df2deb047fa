"""What is read of a repository: ours, anyone's, broken ones."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from builder.errors import BuilderError
from builder.inspect import read_repository

from .conftest import RepositoryWriter

ROOT = Path(__file__).parents[3]


def test_the_shipped_repository() -> None:
    infos = {info.name: info for info in read_repository(ROOT / "model_repository")}
    assert list(infos)[-1] == "arr_coc", "ensembles come last"
    vision = infos["vision"]
    assert (vision.backend, vision.platform) == ("onnxruntime", "onnxruntime_onnx")
    assert {info.versions for info in infos.values()} == {()}, "git keeps the configs alone"
    assert vision.max_batch_size == 8
    assert vision.batching == "dynamic, waits 1000 us, prefers 4, 8"
    assert vision.instances == "1 x CPU"
    assert [str(io) for io in vision.inputs] == ["pixels UINT8 [448, 448, 3]"]
    assert infos["language"].decoupled
    assert infos["arr_coc"].decoupled, "a stream by its last step"
    assert infos["arr_coc"].steps[0].model == "preprocess"
    config = ROOT / "model_repository" / "vision" / "config.pbtxt"
    assert vision.files["config.pbtxt"] == config.stat().st_size


def test_a_model_without_a_config_is_shown_as_triton_completes_it(
    repository: RepositoryWriter,
) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder = repository.root / "plain" / "3"
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    info = repository.read()["plain"]
    assert info.backend == "onnxruntime"
    assert info.versions == (3,)
    assert info.max_batch_size == 4
    assert [str(io) for io in info.inputs] == ["x FP32 [3]"]
    assert info.files == {"3/model.onnx": (folder / "model.onnx").stat().st_size}
    assert not info.problems


BROKEN = {
    "no text format": ("input { name: ", "not a model configuration"),
    "unknown field": ('backend: "python"\nno_such_field: 1\n', "no_such_field"),
    "no text": (b"\xff\xfe\x00config", "not a model configuration"),
    "unknown backend": ('backend: "no_such"\n', "no_such"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_config_is_said_of_its_model_alone(
    repository: RepositoryWriter, case: str
) -> None:
    content, words = BROKEN[case]
    repository.python("sound", ["x"], ["y"])
    repository.config("broken", "")
    raw = content if isinstance(content, bytes) else content.encode()
    (repository.root / "broken" / "config.pbtxt").write_bytes(raw)
    infos = repository.read()
    assert not infos["sound"].problems
    assert infos["broken"].problems
    assert words in " ".join(infos["broken"].problems)


def test_a_folder_without_anything_is_a_model_with_a_problem(repository: RepositoryWriter) -> None:
    repository.python("sound", ["x"], ["y"])
    (repository.root / "empty").mkdir()
    infos = repository.read()
    assert infos["empty"].problems
    assert infos["empty"].versions == ()


def test_links_out_of_the_repository_are_not_followed(repository: RepositoryWriter) -> None:
    repository.python("sound", ["x"], ["y"])
    (repository.root / "sound" / "1" / "out").symlink_to("/usr")
    (repository.root / "sound" / "1" / "circle").symlink_to(repository.root / "sound")
    assert set(repository.read()["sound"].files) == {"config.pbtxt", "1/model.py"}


@pytest.mark.parametrize("name", ["none", "file"])
def test_what_is_no_repository_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BuilderError, match="not a folder"):
        read_repository(tmp_path / name)

"""A task model, rendered: its chain of stages with every engine."""

from pathlib import Path

import pytest

from builder.errors import SpecError
from builder.inspect import graph_of, read_repository
from builder.recipes import render_to
from builder.spec.task import TaskSpec
from examples.tiny.tasks import labels, save_text_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    return save_text_model(folder, "SequenceClassification", **labels("bad", "good"))


def spec_of(checkpoint: Path, **model: object) -> TaskSpec:
    return TaskSpec.model_validate(
        {
            "name": "mood",
            "task": "text-classification",
            "checkpoint": {"path": str(checkpoint)},
            "model": model,
        }
    )


def render(spec: TaskSpec, folder: Path) -> None:
    render_to(spec, folder / "spec.yaml", folder / "out", folder / "out")


@pytest.mark.parametrize(
    ("engine", "backend"),
    [("onnxruntime", "onnxruntime"), ("openvino", "python"), ("torch", "python")],
)
def test_the_chain_is_the_same_with_every_engine(
    checkpoint: Path, tmp_path: Path, engine: str, backend: str
) -> None:
    render(spec_of(checkpoint, engine=engine), tmp_path)
    infos = {info.name: info for info in read_repository(tmp_path / "out")}
    assert infos["mood_model"].backend == backend
    assert [str(io) for io in infos["mood_model"].outputs] == ["logits FP32 [2]"]
    graph = graph_of(infos["mood"], list(infos.values()))
    chain = [node.label for layer in graph.layers() for node in layer]
    assert chain == ["request", "mood_tokenize", "mood_model", "mood_classify", "response"]
    assert not graph.problems
    # Only the weights are missing, and only where Triton itself opens them.
    wrong = {name for name, info in infos.items() if info.problems}
    assert wrong == ({"mood_model", "mood"} if backend == "onnxruntime" else set())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"engine": "onnxruntime", "torch": {}}, "torch is only for engine: torch"),
        ({"engine": "torch", "openvino": {}}, "openvino is only for engine: openvino"),
        ({"engine": "torch", "torch": {"compile": {"batch_sizes": [1, 8]}}}, "dynamic: false"),
        (
            {
                "engine": "torch",
                "max_batch_size": 8,
                "torch": {"compile": {"dynamic": False, "batch_sizes": [1, 4]}},
            },
            "the last must be that",
        ),
        (
            {"engine": "torch", "torch": {"compile": {"dynamic": False, "batch_sizes": [8, 1]}}},
            "must ascend",
        ),
    ],
)
def test_settings_that_do_not_go_together(
    checkpoint: Path, model: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        spec_of(checkpoint, **model)


def test_openvino_is_for_the_cpu(checkpoint: Path, tmp_path: Path) -> None:
    spec = spec_of(checkpoint, engine="openvino").model_copy(update={"target": "gpu"})
    with pytest.raises(SpecError, match="target: cpu"):
        render(spec, tmp_path)


def test_code_of_a_checkpoint_does_not_run_on_torch(checkpoint: Path, tmp_path: Path) -> None:
    spec = spec_of(checkpoint, engine="torch")
    source = spec.checkpoint.model_copy(update={"trust_remote_code": True})
    with pytest.raises(SpecError, match="trust_remote_code"):
        render(spec.model_copy(update={"checkpoint": source}), tmp_path)


def test_static_shapes_are_powers_of_two_up_to_the_largest_batch(
    checkpoint: Path, tmp_path: Path
) -> None:
    spec = spec_of(
        checkpoint, engine="torch", max_batch_size=12, torch={"compile": {"dynamic": False}}
    )
    render(spec, tmp_path)
    config = (tmp_path / "out" / "mood_model" / "config.pbtxt").read_text()
    assert '"[1, 2, 4, 8, 12]"' in config
    assert (tmp_path / "out" / "requirements.txt").read_text().count("torch>=") == 1

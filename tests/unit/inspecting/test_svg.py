"""The drawing: well-formed, escaped, nothing on top of anything."""

from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.inspect import graph_of, graphs_svg, read_repository
from builder.inspect.graph import Edge, EnsembleGraph, Node
from builder.inspect.layout import Box, lay_out

from .conftest import RepositoryWriter

ROOT = Path(__file__).parents[3]
TEXT = "{http://www.w3.org/2000/svg}text"


def overlap(a: Box, b: Box) -> bool:
    tall = (a.height + b.height) / 2 - abs(a.y - b.y)
    wide = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    return tall > 0.01 and wide > 0.01


def test_every_step_and_tensor_of_arr_coc_is_drawn() -> None:
    infos = read_repository(ROOT / "model_repository")
    svg = graphs_svg([graph_of(infos[-1], infos)])
    words = [element.text for element in ElementTree.fromstring(svg).iter(TEXT)]
    for name in ("arr_coc", "preprocess", "vision", "relevance", "language", "request", "response"):
        assert words.count(name) == 1
    assert words.count("pixels") == 2
    assert {io.name for io in infos[-1].inputs} <= set(words)


@settings(max_examples=60, deadline=None)
@given(
    layers=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    data=st.data(),
)
def test_no_box_lies_on_another(layers: list[int], data: st.DataObject) -> None:
    nodes = [Node("request", "request", "", 0)]
    for layer, count in enumerate(layers, start=1):
        nodes += [Node(f"step {layer}.{n}", f"model_{n}", "python", layer) for n in range(count)]
    nodes.append(Node("response", "response", "", len(layers) + 1))
    pairs = [(a.key, b.key) for a, b in combinations(nodes, 2) if a.layer < b.layer]
    chosen = data.draw(st.lists(st.sampled_from(pairs), unique=True, max_size=12))
    edges = tuple(Edge(*ends, tuple("tensor" for _ in range(3))) for ends in chosen)
    layout = lay_out(EnsembleGraph("g", tuple(nodes), edges))
    for a, b in combinations(layout.boxes, 2):
        assert not overlap(a, b), (a.node, a.lines, b.node, b.lines)
    for box in layout.boxes:
        assert 0 <= box.x <= box.x + box.width <= layout.width + 0.01
        assert -0.01 <= box.y - box.height / 2 <= box.y + box.height / 2 <= layout.height + 0.01


@pytest.mark.parametrize("steps", [[("a", ["x", "y"], ["y"])], [], [("none", [], [])]])
def test_a_broken_ensemble_is_drawn_as_well(repository: RepositoryWriter, steps: list) -> None:
    repository.python("a", ["x"], ["y"])
    repository.ensemble("e", ["x"], ["y"], steps)
    infos = repository.read()
    svg = graphs_svg([graph_of(infos["e"], list(infos.values()))])
    assert ElementTree.fromstring(svg) is not None


def test_names_are_escaped(repository: RepositoryWriter) -> None:
    repository.python("a", ["<script>alert(1)</script>&\\001"], ["y"])
    infos = repository.read()
    svg = graphs_svg([graph_of(infos["a"], list(infos.values()))])
    assert "<script" not in svg
    words = [element.text for element in ElementTree.fromstring(svg).iter(TEXT)]
    assert "<script>alert(1)</script>&\\x01" in words

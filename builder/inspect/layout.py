"""Where the boxes of a layered graph go.

Sugiyama's method (IEEE Transactions on Systems, Man, and Cybernetics 11(2), 1981) in small: an
edge becomes a chain through every column between its ends, its label a box of its own in the first
of them, so that nothing is ever drawn across anything; columns are ordered by barycentres.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from builder.inspect.graph import EnsembleGraph, Node

_COLUMN_GAP = 30.0
_ROW_GAP = 16.0
_LABEL_GAP = 8.0
_SWEEPS = 8
CHARACTER = 7.3
"""Width of a character of 12 px monospace type, with room to spare."""
LINE = 15.0
"""Height of a line of it."""


@dataclass(eq=False)
class Box:
    """A node, an edge's label, or a bend of an edge (no size, no lines).

    Attributes:
        column: Nodes are in even columns, labels in odd ones.
        node: What it stands for; None for a label or a bend.
        lines: Text of a label.
        x: Left edge.
        y: Centre.
    """

    column: int
    width: float
    height: float
    node: Node | None = None
    lines: tuple[str, ...] = ()
    x: float = 0.0
    y: float = 0.0
    before: list["Box"] = field(default_factory=list)
    after: list["Box"] = field(default_factory=list)


@dataclass(frozen=True)
class Layout:
    """Boxes in place; `chains` are the edges, each from a node over its label to a node.

    Attributes:
        backwards: Places in `chains` of edges that close a circle; they are drawn from right to
            left.
    """

    boxes: tuple[Box, ...]
    chains: tuple[tuple[Box, ...], ...]
    backwards: frozenset[int]
    width: float
    height: float


def lay_out(graph: EnsembleGraph) -> Layout:
    """Place a graph; the top left corner is 0, 0; lengths in pixels."""
    nodes = {node.key: _node_box(node) for node in graph.nodes}
    boxes = list(nodes.values())
    chains: list[tuple[Box, ...]] = []
    backwards = set()
    for edge in graph.edges:
        start, end = nodes[edge.source], nodes[edge.target]
        if start.column >= end.column:
            backwards.add(len(chains))
            start, end = end, start
        chain = [start]
        for column in range(start.column + 1, max(end.column, start.column + 2)):
            label = edge.tensors if column == start.column + 1 else ()
            chain.append(_label_box(column, label))
        boxes += chain[1:]
        if end is not start:
            chain.append(end)
        for left, right in pairwise(chain):
            left.after.append(right)
            right.before.append(left)
        chains.append(tuple(chain))
    columns = [
        [box for box in boxes if box.column == index]
        for index in range(max(box.column for box in boxes) + 1)
    ]
    _order(columns)
    _place_rows(columns)
    width = _place_columns(columns)
    top = min(box.y - box.height / 2 for box in boxes)
    for box in boxes:
        box.y -= top
    height = max(box.y + box.height / 2 for box in boxes)
    return Layout(tuple(boxes), tuple(chains), frozenset(backwards), width, height)


def _node_box(node: Node) -> Box:
    longest = max(len(node.label), len(node.note))
    height = LINE * (2 if node.note else 1) + 14
    return Box(2 * node.layer, longest * CHARACTER + 24, height, node)


def _label_box(column: int, lines: Sequence[str]) -> Box:
    longest = max((len(line) for line in lines), default=0)
    return Box(column, longest * CHARACTER, max(len(lines), 0.5) * LINE, lines=tuple(lines))


def _mean(boxes: Sequence[Box], default: float) -> float:
    return sum(box.y for box in boxes) / len(boxes) if boxes else default


def _order(columns: Sequence[list[Box]]) -> None:
    """Order each column by the mean place of its neighbours, from both sides in turn."""
    for column in columns:
        for place, box in enumerate(column):
            box.y = float(place)
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        for column in columns if forward else reversed(columns):
            means = {box: _mean(box.before if forward else box.after, box.y) for box in column}
            column.sort(key=means.__getitem__)
            for index, box in enumerate(column):
                box.y = float(index)


def _gap(upper: Box, lower: Box) -> float:
    both_nodes = upper.node is not None or lower.node is not None
    return (upper.height + lower.height) / 2 + (_ROW_GAP if both_nodes else _LABEL_GAP)


def _place_rows(columns: Sequence[list[Box]]) -> None:
    """Centre each box between its neighbours, as far as its column has room."""
    for column in columns:
        _spread(column, [0.0] * len(column))
    for sweep in range(2 * _SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            _spread(column, [_mean([*box.before, *box.after], box.y) for box in column])


def _spread(column: Sequence[Box], wanted: Sequence[float]) -> None:
    """Nearest places to the wanted ones that keep the order and the gaps."""
    # Blocks of touching boxes, each at the mean of what its boxes want (isotonic regression).
    blocks: list[list[float]] = []  # sum of wanted places without offsets, count
    offset, offsets = 0.0, []
    for index, box in enumerate(column):
        if index:
            offset += _gap(column[index - 1], box)
        offsets.append(offset)
        blocks.append([wanted[index] - offset, 1.0])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    places = [total / count for total, count in blocks for _ in range(int(count))]
    for box, place, shift in zip(column, places, offsets, strict=True):
        box.y = place + shift


def _place_columns(columns: Sequence[list[Box]]) -> float:
    x = 0.0
    for column in columns:
        width = max((box.width for box in column), default=0.0)
        for box in column:
            box.x = x + ((width - box.width) / 2 if box.node is not None else 0.0)
            if box.node is None:
                box.width = width  # an edge goes straight along its whole label
        x += width + _COLUMN_GAP
    return x - _COLUMN_GAP

"""Models and ensemble graphs for a terminal."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from builder.inspect.graph import REQUEST, RESPONSE, EnsembleGraph, Node
from builder.inspect.repository import ModelInfo
from builder.validate.report import printable

_LARGEST = 3
"""Files of a model that are listed."""


def size_words(size: int) -> str:
    """Bytes for people."""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} GB"


def models_view(models: Sequence[ModelInfo], title: str) -> RenderableType:
    """A table of the models, one of their tensors, and what is wrong with some."""
    wrong = [
        Text(f"{printable(info.name)}: {printable(problem)}", style="red")
        for info in models
        for problem in info.problems
    ]
    return Group(_models_table(models, title), _tensors_table(models), _files_table(models), *wrong)


def _models_table(models: Sequence[ModelInfo], title: str) -> Table:
    table = Table(title=Text(printable(title)))
    for name in ("model", "backend", "versions", "batch", "instances", "size"):
        table.add_column(name, overflow="fold", justify="right" if name == "size" else "left")
    for info in models:
        table.add_row(
            Text(printable(info.name), style="red" if info.problems else ""),
            Text(_backend(info)),
            ", ".join(map(str, info.versions)) or "none",
            _batching(info),
            info.instances,
            size_words(info.size),
        )
    return table


def _tensors_table(models: Sequence[ModelInfo]) -> Table:
    table = Table()
    for name in ("model", "", "tensor", "type", "dims"):
        table.add_column(name, overflow="fold")
    for info in models:
        rows = [("in", tensor) for tensor in info.inputs]
        rows += [("out", tensor) for tensor in info.outputs]
        for place, (way, tensor) in enumerate(rows):
            table.add_row(
                Text(printable(info.name) if place == 0 else ""),
                way if place == 0 or way != rows[place - 1][0] else "",
                Text(printable(tensor.name)),
                tensor.data_type + (", optional" if tensor.optional else ""),
                Text(f"[{', '.join(map(str, tensor.dims))}]"),
                end_section=place == len(rows) - 1,
            )
    return table


def _files_table(models: Sequence[ModelInfo]) -> Table:
    table = Table()
    table.add_column("model", overflow="fold")
    table.add_column("largest files", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    for info in models:
        largest = sorted(info.files.items(), key=lambda file: -file[1])[:_LARGEST]
        for place, (name, size) in enumerate(largest):
            table.add_row(
                Text(printable(info.name) if place == 0 else ""),
                Text(printable(name)),
                size_words(size),
                end_section=place == len(largest) - 1,
            )
    return table


def graph_view(graph: EnsembleGraph) -> RenderableType:
    """An ensemble as a tree: a branch a step, steps with the same number run side by side."""
    tree = Tree(Text(printable(graph.name), style="bold"))
    number = 0
    for layer in graph.layers():
        if not layer:
            continue
        if layer[0].key not in (REQUEST, RESPONSE):
            number += 1
        for place, node in enumerate(layer):
            head = _head(node, number, place if len(layer) > 1 else None)
            branch = tree.add(head)
            for line in _ways(graph, node):
                branch.add(line)
    for problem in graph.problems:
        tree.add(Text(printable(problem), style="red"))
    return tree


def _backend(info: ModelInfo) -> str:
    name = printable(info.backend) or "?"
    platform = printable(info.platform) if info.platform != info.backend else ""
    return "\n".join(part for part in (name, platform, "stream" * info.decoupled) if part)


def _batching(info: ModelInfo) -> str:
    if not info.backend:
        return ""
    most = f"up to {info.max_batch_size}" if info.max_batch_size else "none"
    return "\n".join(part for part in (most, *info.batching.split(", ", 1)) if part)


def _head(node: Node, number: int, place: int | None) -> Text:
    if node.key in (REQUEST, RESPONSE):
        return Text(node.label, style="italic")
    letter = "" if place is None else chr(ord("a") + place) if place < 26 else f".{place + 1}"
    text = Text(f"{number}{letter} ")
    text.append(printable(node.label), style="bold red" if node.broken else "bold")
    text.append(f"  {printable(node.note)}", style="red" if node.broken else "dim")
    return text


def _ways(graph: EnsembleGraph, node: Node) -> Iterator[Text]:
    for edge in graph.edges:
        if edge.target == node.key:
            yield _way("<-", graph.node(edge.source), edge.tensors)
    for edge in graph.edges:
        if edge.source == node.key:
            yield _way("->", graph.node(edge.target), edge.tensors)


def _way(arrow: str, other: Node, tensors: Sequence[str]) -> Text:
    text = Text(f"{arrow} ")
    text.append(printable(other.label), style="cyan")
    text.append(f": {', '.join(printable(name) for name in tensors)}")
    return text

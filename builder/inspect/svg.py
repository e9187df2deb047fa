"""Ensemble graphs as SVG: no scripts, no outside files, every name escaped."""

from collections.abc import Sequence
from html import escape

from builder.inspect.graph import EnsembleGraph
from builder.inspect.layout import LINE, Box, Layout, lay_out
from builder.validate.report import printable

_MARGIN = 16.0
_HEAD = 26.0
_STYLE = """
.g { font: 12px ui-monospace, "DejaVu Sans Mono", monospace; fill: #1b1f24 }
.g .paper { fill: #ffffff }
.g .title { font-weight: bold; font-size: 14px }
.g .node { fill: #eef3fb; stroke: #4a74b8; stroke-width: 1.2 }
.g .end { fill: #f4f4f4; stroke: #8a8f98 }
.g .broken { fill: #fdeceb; stroke: #c4342b; stroke-dasharray: 4 3 }
.g .name { font-weight: bold; text-anchor: middle }
.g .note { fill: #5a626e; text-anchor: middle; font-size: 11px }
.g .tensor { fill: #3a4250; font-size: 11px }
.g .edge { fill: none; stroke: #8a97ab; stroke-width: 1.2 }
.g .back { stroke: #c4342b; stroke-dasharray: 4 3 }
.g .head { fill: #8a97ab }
.g .problem { fill: #c4342b }
"""


def graphs_svg(graphs: Sequence[EnsembleGraph]) -> str:
    """Graphs one below the other, as one SVG document; it also stands inside HTML as it is."""
    parts: list[str] = []
    top, width = _MARGIN, 0.0
    for graph in graphs:
        layout = lay_out(graph)
        parts.append(text_element(_MARGIN, top + 12, "title", graph.name))
        parts.append(f'<g transform="translate({_MARGIN:.1f} {top + _HEAD:.1f})">')
        parts += _drawing(layout)
        parts.append("</g>")
        width = max(width, layout.width, 9 * len(graph.name))
        top += _HEAD + layout.height + _MARGIN
        for problem in graph.problems:
            parts.append(text_element(_MARGIN, top + 8, "problem", problem))
            width = max(width, 7.3 * len(problem))
            top += LINE + 2
        top += _MARGIN
    size = f"{width + 2 * _MARGIN:.0f} {top:.0f}"
    wide, high = size.split()
    # Every name comes from somebody's config: `_text` escapes it.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="g" viewBox="0 0 {size}" '
        f'width="{wide}" height="{high}" role="img">\n<style>{_STYLE}</style>\n'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path class="head" d="M0 0 L8 4 L0 8 z"/></marker></defs>\n'
        f'<rect class="paper" width="100%" height="100%"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def text_element(x: float, y: float, kind: str, text: str) -> str:
    """A text of a CSS class, escaped."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(printable(text))}</text>'


def _drawing(layout: Layout) -> list[str]:
    parts = [
        _edge(chain, backwards=index in layout.backwards)
        for index, chain in enumerate(layout.chains)
    ]
    for box in layout.boxes:
        parts += _node(box) if box.node is not None else _label(box)
    return parts


def _edge(chain: Sequence[Box], *, backwards: bool) -> str:
    first = chain[0]
    path = [f"M{first.x + first.width:.1f} {first.y:.1f}"]
    x, y = first.x + first.width, first.y
    for box in chain[1:]:
        middle = (x + box.x) / 2
        path.append(
            f"C{middle:.1f} {y:.1f} {middle:.1f} {_line_y(box):.1f} {box.x:.1f} {_line_y(box):.1f}"
        )
        x, y = box.x, _line_y(box)
        if box.node is None:
            x += box.width
            path.append(f"L{x:.1f} {y:.1f}")
    marker = "marker-start" if backwards else "marker-end"
    kind = "edge back" if backwards else "edge"
    return f'<path class="{kind}" d="{" ".join(path)}" {marker}="url(#tip)"/>'


def _line_y(box: Box) -> float:
    """Labels stand on their edge."""
    return box.y + box.height / 2 if box.lines else box.y


def _node(box: Box) -> list[str]:
    node = box.node
    assert node is not None
    kind = "broken" if node.broken else "node" if node.key.startswith("step") else "end"
    middle, top = box.x + box.width / 2, box.y - box.height / 2
    parts = [
        f'<rect class="node {kind}" x="{box.x:.1f}" y="{top:.1f}" rx="6" '
        f'width="{box.width:.1f}" height="{box.height:.1f}"/>',
        text_element(middle, top + LINE + 3, "name", node.label),
    ]
    if node.note:
        parts.append(text_element(middle, top + 2 * LINE + 3, "note", node.note))
    return parts


def _label(box: Box) -> list[str]:
    top = box.y - box.height / 2
    return [
        text_element(box.x, top + LINE * (index + 1) - 4, "tensor", line)
        for index, line in enumerate(box.lines)
    ]

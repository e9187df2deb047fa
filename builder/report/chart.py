"""Small horizontal charts as SVG: bars, and points on a logarithmic axis."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from builder.inspect.svg import text_element

_ROW = 22.0
_HEAD = 30.0
_FOOT = 26.0
_PANEL = 250.0
_WORDS = 110.0
"""Room for a value behind the longest bar."""
_GAP = 24.0
_CHARACTER = 6.8
_STYLE = """
.c { font: 11px ui-monospace, "DejaVu Sans Mono", monospace; fill: #1b1f24 }
.c .paper { fill: #ffffff }
.c .title { font-weight: bold }
.c .bar { fill: #9db7de }
.c .strong { fill: #2f5fa8 }
.c .grid { stroke: #e3e6ea; stroke-width: 1 }
.c .axis { fill: #5a626e; text-anchor: middle; font-size: 10px }
.c .limit { stroke: #c4342b; stroke-width: 2 }
.c .over { fill: #c4342b }
.c .legend { fill: #c4342b; font-size: 10px }
"""


@dataclass(frozen=True)
class Panel:
    """One value for each row.

    Attributes:
        title: What the values are.
        values: None: there is none.
        words: The values as they are written beside the row.
        limits: On a logarithmic axis: what is allowed, drawn as a line.
        logarithmic: Powers of ten; values of 0 stand at the left end.
    """

    title: str
    values: Sequence[float | None]
    words: Sequence[str]
    limits: Sequence[float | None] = ()
    logarithmic: bool = False


def chart(
    labels: Sequence[str], panels: Sequence[Panel], strong: frozenset[int] = frozenset()
) -> str:
    """Panels side by side over the same rows, as one SVG document.

    Args:
        labels: Names of the rows.
        panels: What is drawn of them.
        strong: Rows that stand out.
    """
    left = 16 + _CHARACTER * max((len(label) for label in labels), default=0)
    step = _PANEL + _WORDS + _GAP
    width, height = left + step * len(panels), _HEAD + _ROW * len(labels) + _FOOT
    parts = []
    for place, label in enumerate(labels):
        parts.append(text_element(8, _HEAD + _ROW * place + 15, "", label))
    for place, panel in enumerate(panels):
        drawn = _logarithmic(panel, strong) if panel.logarithmic else _bars(panel, strong)
        parts.append(f'<g transform="translate({left + step * place:.1f} 0)">')
        parts += [text_element(0, 18, "title", panel.title), *drawn, "</g>"]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="c" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img">\n<style>{_STYLE}</style>\n'
        '<rect class="paper" width="100%" height="100%"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _bars(panel: Panel, strong: frozenset[int]) -> list[str]:
    most = max((value for value in panel.values if value is not None), default=0.0) or 1.0
    parts = []
    for place, (value, words) in enumerate(zip(panel.values, panel.words, strict=True)):
        y = _HEAD + _ROW * place
        length = 0.0 if value is None else _PANEL * value / most
        kind = "bar strong" if place in strong else "bar"
        wide = max(length, 0.5)
        parts.append(f'<rect class="{kind}" x="0" y="{y + 4:.1f}" width="{wide:.1f}" height="14"/>')
        parts.append(text_element(length + 6, y + 15, "", words))
    return parts


def _logarithmic(panel: Panel, strong: frozenset[int]) -> list[str]:
    limits = list(panel.limits) or [None] * len(panel.values)
    shown = [v for v in (*panel.values, *limits) if v is not None and 0 < v < math.inf]
    first = math.floor(math.log10(min(shown))) if shown else -1
    last = max(math.ceil(math.log10(max(shown))) if shown else 0, first + 1)

    def at(value: float) -> float:
        if value <= 0:
            return 0.0
        share = (min(math.log10(value), last) - first) / (last - first)
        return _PANEL * max(share, 0.0)

    bottom = _HEAD + _ROW * len(panel.values)
    every = max(1, (last - first) // 6)
    parts = []
    for exponent in range(first, last + 1, every):
        x = at(10.0**exponent)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" y1="{_HEAD - 4:.1f}" x2="{x:.1f}" y2="{bottom:.1f}"/>'
        )
        parts.append(text_element(x, bottom + 14, "axis", f"1e{exponent}"))
    for place, (value, words) in enumerate(zip(panel.values, panel.words, strict=True)):
        y, limit = _HEAD + _ROW * place + 11, limits[place]
        if limit is not None and limit > 0:
            x = at(limit)
            parts.append(
                f'<line class="limit" x1="{x:.1f}" y1="{y - 8:.1f}" x2="{x:.1f}" y2="{y + 8:.1f}"/>'
            )
        if value is not None:
            over = limit is not None and value > limit
            kind = "over" if over else "strong" if place in strong or not strong else "bar"
            parts.append(f'<circle class="{kind}" cx="{at(value):.1f}" cy="{y:.1f}" r="4.5"/>')
        parts.append(text_element(_PANEL + 10, y + 4, "", words))
    if any(limit is not None for limit in limits):
        parts.append(text_element(_PANEL + 28, bottom + 14, "legend", "| allowed"))
    return parts

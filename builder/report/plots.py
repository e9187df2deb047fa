"""The plots of a report."""

from collections.abc import Mapping
from typing import Any

from builder.inspect import graphs_svg
from builder.inspect.text import size_words
from builder.report.chart import Panel, chart
from builder.report.facts import Facts


def plots(facts: Facts) -> dict[str, str]:
    """Name of a plot -> SVG; only those that there is something to show in."""
    found = {}
    if facts.graphs:
        found["graph"] = graphs_svg(facts.graphs)
    if facts.parity:
        found["parity"] = _parity(facts)
    for name, outcome in facts.precision.items():
        found[f"precision-{name}"] = _variants(outcome)
    if facts.models:
        found["sizes"] = _sizes(facts)
    if facts.steps:
        found["times"] = _times(facts)
    return found


def _parity(facts: Facts) -> str:
    rows = facts.parity
    errors = [float(row["max_abs_error"]) for row in rows]
    panel = Panel(
        "largest absolute error",
        errors,
        [f"{error:.1e}" for error in errors],
        [float(row["tolerance"]["max_abs_error"]) for row in rows],
        logarithmic=True,
    )
    return chart([f"{row['artifact']} {row['tensor']} x{row['batch']}" for row in rows], [panel])


def _variants(outcome: Mapping[str, Any]) -> str:
    variants = outcome["variants"]
    chosen = frozenset(
        place for place, v in enumerate(variants) if v["precision"] == outcome["precision"]
    )

    def column(key: str) -> list[float | None]:
        return [None if v.get(key) is None else float(v[key]) for v in variants]

    sizes, errors = column("bytes"), column("max_abs_error")
    times = [time or None for time in column("milliseconds")]  # 0: not timed (target gpu)
    allowed = [
        None if not v.get("tolerance") else float(v["tolerance"]["max_abs_error"]) for v in variants
    ]
    panels = [
        Panel("size", sizes, ["failed" if v is None else size_words(int(v)) for v in sizes]),
        Panel(
            "largest absolute error",
            errors,
            ["" if v is None else f"{v:.1e}" for v in errors],
            allowed,
            logarithmic=True,
        ),
        Panel("time", times, ["" if v is None else f"{v:.1f} ms" for v in times]),
    ]
    return chart([str(v["precision"]) for v in variants], panels, chosen)


def _sizes(facts: Facts) -> str:
    sizes = [model.size for model in facts.models]
    panel = Panel("size", sizes, [size_words(size) for size in sizes])
    return chart([model.name for model in facts.models], [panel])


def _times(facts: Facts) -> str:
    seconds = [time for _, time in facts.steps]
    panel = Panel("time", seconds, [f"{value:.1f} s" for value in seconds])
    return chart([text for text, _ in facts.steps], [panel])

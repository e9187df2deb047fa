"""Measurements for people: a table, a JSON document, a plot."""

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from builder.bench.report import Measurement, ServerTime
from builder.errors import ToolError


def table(measurements: Sequence[Measurement]) -> Table:
    """One row a measurement; under an ensemble's, one row a stage with its server times."""
    notes = ["latencies in ms, batch size 1"]
    if streams := any(item.response_throughput is not None for item in measurements):
        notes.append("* up to the first response")
    if not all(item.stable for item in measurements):
        notes.append("~ unstable: the windows never agreed")
    notes += [
        f"{item.model} at {item.concurrency}: {item.refused} requests refused, its queue was full"
        for item in measurements
        if item.refused
    ]
    shown = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption="; ".join(notes)
    )
    shown.add_column("model", overflow="fold")
    rates = ("infer/s", "resp/s") if streams else ("infer/s",)
    for name in ("conc", *rates, "avg", "p50", "p95", "p99", "queue", "comp"):
        shown.add_column(name, justify="right", no_wrap=True)
    for item in measurements:
        responses = item.response_throughput
        mark = ("*" if responses is not None else "") + ("" if item.stable else "~")
        rates = (_short(item.throughput), "" if responses is None else _short(responses))
        times = (item.avg_ms, item.p50_ms, item.p95_ms, item.p99_ms)
        shown.add_row(
            item.model + mark,
            str(item.concurrency),
            *(rates if streams else rates[:1]),
            *map(_short, times),
            *_server(item.server),
        )
        for stage, server in item.stages.items():
            empty = [""] * (7 if streams else 6)
            shown.add_row(f"  {stage}", *empty, *_server(server), style="dim")
    return shown


def document(repository: Path, measurements: Sequence[Measurement]) -> dict[str, Any]:
    """JSON-ready, with the machine that it was measured on."""
    machine = {"cpus": os.cpu_count(), "platform": platform.platform()}
    return {
        "repository": str(repository),
        "machine": machine,
        "rows": [item.as_dict() for item in measurements],
    }


def write_json(path: Path, repository: Path, measurements: Sequence[Measurement]) -> None:
    """Write `document`; raises `ToolError` when the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document(repository, measurements), indent=2) + "\n")
    except OSError as error:
        raise ToolError(f"--json {path} cannot be written: {error.strerror}") from error


def check_plot(path: Path) -> None:
    """Raise `ToolError` when no plot could be written to `path`; ask before measuring."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 (optional)
    except ImportError:
        raise ToolError("--plot needs matplotlib: pip install matplotlib") from None
    mpl.use("Agg")
    if path.suffix.lower() not in {".png", ".svg", ".pdf"}:
        raise ToolError(f"--plot {path}: choose a name that ends with .png, .svg or .pdf")


def plot(path: Path, measurements: Sequence[Measurement]) -> None:
    """Throughput and p50 to p99 latency over concurrency, a line a model."""
    check_plot(path)
    from matplotlib import pyplot  # noqa: PLC0415 (optional)

    figure, (rate, latency) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for model in dict.fromkeys(item.model for item in measurements):
        items = [item for item in measurements if item.model == model]
        x = [item.concurrency for item in items]
        (line,) = rate.plot(x, [item.throughput for item in items], "o-", label=model)
        color = line.get_color()
        latency.plot(x, [item.p50_ms for item in items], "o-", color=color, label=model)
        low, high = [item.p50_ms for item in items], [item.p99_ms for item in items]
        latency.fill_between(x, low, high, color=color, alpha=0.2)
    of = sorted({item.latency_of for item in measurements})
    rate.set(xlabel="concurrency", ylabel="requests / s", title="Throughput")
    latency.set(
        xlabel="concurrency",
        ylabel=f"ms to the {' / '.join(of)}",
        title="Latency, p50 to p99",
    )
    ticks = sorted({item.concurrency for item in measurements})
    for axes in (rate, latency):
        axes.set_yscale("log")  # stages of a pipeline lie decades apart
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.set_xticks(ticks)
        axes.grid(visible=True, which="both", alpha=0.2)
    rate.legend()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise ToolError(f"--plot {path} cannot be written: {error.strerror}") from error
    finally:
        pyplot.close(figure)


def _server(server: ServerTime) -> tuple[str, str]:
    return _short(server.queue_ms), _short(server.compute_ms)


def _short(number: float) -> str:
    """Two decimals, fewer for long numbers."""
    return f"{number:.{2 if number < 100 else 1 if number < 1000 else 0}f}"

"""What perf_analyzer measured: its CSV (`--verbose-csv`) and the server section of its output."""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from builder.errors import ToolError

_MICROSECONDS_PER_MS = 1000.0
_AVERAGE = "Avg latency"
_REQUIRED = ("Concurrency", "Inferences/Second", "p50 latency", "p95 latency", "p99 latency")
_COMPUTE = ("Server Compute Input", "Server Compute Infer", "Server Compute Output")
# "  pre, version: 1\n      Inference count: ... Avg request latency: 322 usec (overhead ...)"
_STAGE = re.compile(
    r"^ +(?P<model>\S+), version: \d+\n(?:.*\n)*?"
    r".*Avg request latency: (?P<total>\d+) usec \((?P<parts>[^)]*)\)",
    re.MULTILINE,
)
_SERVER = re.compile(
    r"^  Server: *\n(?:.*\n)*?.*Avg request latency: (?P<total>\d+) usec \((?P<parts>[^)]*)\)",
    re.MULTILINE,
)
_PART = re.compile(r"(?P<name>[a-z ]+?) (?P<usec>\d+) usec")


@dataclass(frozen=True)
class ServerTime:
    """Where a request's time went inside the server, averages in ms."""

    queue_ms: float
    compute_ms: float
    """Input, inference and output together."""


@dataclass(frozen=True)
class Measurement:
    """One model at one concurrency. Times in ms."""

    model: str
    concurrency: int
    throughput: float
    """Requests (of batch size 1) a second."""
    response_throughput: float | None
    """Responses a second, for a decoupled model."""
    latency_of: str
    """`response`, or `first response` for a decoupled model: what the latencies end with."""
    avg_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    server: ServerTime
    stages: dict[str, ServerTime] = field(default_factory=dict)
    """The composing models of an ensemble."""
    stable: bool = True
    """False when three windows in a row never agreed within the asked percentage."""
    refused: int = 0
    """Requests that the model refused because its queue was full; they are in no other figure."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def parse(model: str, text: str, output: str, *, stable: bool = True) -> list[Measurement]:
    """Measurements of a run of perf_analyzer, by concurrency.

    Args:
        model: name of the measured model.
        text: the CSV file of `-f FILE --verbose-csv`.
        output: what it printed; the times of an ensemble and its stages are only there. Used
            where the CSV holds one concurrency.
        stable: whether it called the measurement stable.

    Raises `ToolError` when this is not such a report.
    """
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row.get("Concurrency")]
    if not rows:
        raise ToolError(f"perf_analyzer reported no measurement of model '{model}'")
    if missing := [name for name in _REQUIRED if name not in rows[0]]:
        raise ToolError(f"perf_analyzer's report of model '{model}' has no {', '.join(missing)}")
    stages = _stages(output) if len(rows) == 1 else {}
    return [
        _measurement(model, row, stages, output if len(rows) == 1 else "", stable=stable)
        for row in sorted(rows, key=lambda row: int(row["Concurrency"]))
    ]


def _measurement(
    model: str,
    row: Mapping[str, str],
    stages: dict[str, ServerTime],
    output: str,
    *,
    stable: bool,
) -> Measurement:
    responses = row.get("Response Throughput")
    found = _SERVER.search(output) if stages else None
    server = (
        # The CSV's columns are no sums of the stages' for an ensemble.
        _server_time(found["parts"])
        if found
        else ServerTime(
            queue_ms=_ms(row, "Server Queue"), compute_ms=sum(_ms(row, name) for name in _COMPUTE)
        )
    )
    return Measurement(
        model=model,
        concurrency=int(row["Concurrency"]),
        throughput=_number(row, "Inferences/Second"),
        response_throughput=None if responses is None else _number(row, "Response Throughput"),
        latency_of="response" if responses is None else "first response",
        avg_ms=_ms(row, _AVERAGE),
        p50_ms=_ms(row, "p50 latency"),
        p95_ms=_ms(row, "p95 latency"),
        p99_ms=_ms(row, "p99 latency"),
        server=server,
        stages=stages,
        stable=stable,
    )


def _stages(output: str) -> dict[str, ServerTime]:
    return {found["model"]: _server_time(found["parts"]) for found in _STAGE.finditer(output)}


def _server_time(parts: str) -> ServerTime:
    times = {
        found["name"].strip(): int(found["usec"]) / _MICROSECONDS_PER_MS
        for found in _PART.finditer(parts)
    }
    compute = sum(time for name, time in times.items() if name.startswith("compute"))
    return ServerTime(queue_ms=times.get("queue", 0.0), compute_ms=compute)


def _ms(row: Mapping[str, str], name: str) -> float:
    return _number(row, name) / _MICROSECONDS_PER_MS if row.get(name) else 0.0


def _number(row: Mapping[str, str], name: str) -> float:
    try:
        return float(row[name])
    except ValueError:
        raise ToolError(
            f"perf_analyzer's report has '{row[name]}' for {name}, not a number"
        ) from None

"""Triton's own trace of the pipeline: spans of each model, and a picture of them.

    python -m benchmarks.trace REPOSITORY [--output docs/trace.svg] [--requests 5]

Serves the repository with tracing on (it is off wherever else it is served), asks about a photo
and draws the median request. Settings and the file's form:
https://github.com/triton-inference-server/server/blob/main/docs/user_guide/trace.md
"""

import argparse
import importlib.resources
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder.serve import TritonServer
from clients import GenerationOptions, Question, answer

QUESTION = "What is in the picture?"
_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2")
_WIDTH, _ROW, _LEFT, _TOP = 900, 34, 110, 56


@dataclass(frozen=True)
class Span:
    """One model's part in a request.

    Attributes:
        model: Its name.
        start: Seconds from the start of the ensemble's request to the start of its own.
        end: The same, to its end.
        compute: Start and end of the part that it computes in.
    """

    model: str
    start: float
    end: float
    compute: tuple[float, float]

    @property
    def seconds(self) -> float:
        """From start to end."""
        return self.end - self.start


@dataclass(frozen=True)
class Request:
    """A traced request: the client's seconds, and spans by model, the ensemble's among them."""

    seconds: float
    spans: dict[str, Span]


def photo() -> bytes:
    """A photo of a cat that ships inside scikit-image."""
    return (importlib.resources.files("skimage") / "data" / "chelsea.png").read_bytes()


@contextmanager
def traced_server(repository: Path, folder: Path) -> Iterator[tuple[TritonServer, Path]]:
    """Serve with tracing on; yields the server and the file that it writes when it ends."""
    path = folder / f"trace-{time.monotonic_ns()}.json"
    settings = (f"triton,file={path}", "rate=1", "level=TIMESTAMPS", "count=-1")
    arguments = [f"--trace-config={setting}" for setting in settings]
    with TritonServer(repository, args=arguments) as server:
        yield server, path


def ask(server: TritonServer, max_tokens: int) -> float:
    """Seconds that the client waits for the whole answer."""
    question = Question(photo(), QUESTION, GenerationOptions(max_tokens=max_tokens))
    start = time.perf_counter()
    answer(server.grpc_url, question)
    return time.perf_counter() - start


def read_trace(path: Path, seconds: list[float]) -> list[Request]:
    """The traced requests, in the order in which they were asked.

    Args:
        path: Triton's trace file.
        seconds: What the client waited for each of them.
    """
    entries: dict[int, dict[str, Any]] = {}
    for part in _documents(path.read_text()):
        entry = entries.setdefault(part["id"], {"times": {}})
        entry.update({key: part[key] for key in ("model_name", "parent_id") if key in part})
        for stamp in part.get("timestamps", ()):
            entry["times"].setdefault(stamp["name"], stamp["ns"])
    roots = [number for number, entry in entries.items() if "parent_id" not in entry]
    requests = []
    for number, waited in zip(sorted(roots), seconds, strict=True):
        zero = entries[number]["times"]["REQUEST_START"]
        family = [e for n, e in entries.items() if n == number or e.get("parent_id") == number]
        spans = {span.model: span for span in (_span(entry, zero) for entry in family)}
        # A decoupled model's request ends when it is accepted; its answer ends with the ensemble.
        last = max(spans.values(), key=lambda span: span.start)
        end = max(span.end for span in spans.values())
        spans[last.model] = replace(last, end=end, compute=(last.compute[0], end))
        requests.append(Request(waited, spans))
    return requests


def _documents(text: str) -> Iterator[dict[str, Any]]:
    """Triton appends to its file; each part is a JSON list."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        parts, at = decoder.raw_decode(text, at)
        yield from parts
        while at < len(text) and text[at] in " \n\r\t,":
            at += 1


def _span(entry: dict[str, Any], zero: int) -> Span:
    times = {name: (ns - zero) / 1e9 for name, ns in entry["times"].items()}
    start, end = times["REQUEST_START"], times["REQUEST_END"]
    compute = (times.get("COMPUTE_START", start), times.get("COMPUTE_END", end))
    return Span(entry["model_name"], start, end, compute)


def median_request(requests: list[Request]) -> Request:
    """The one whose client waited the median time."""
    median = statistics.median_low([request.seconds for request in requests])
    return next(request for request in requests if request.seconds == median)


def draw(request: Request) -> str:
    """An SVG with one bar a model: waiting pale, computing full."""
    spans = [span for span in request.spans.values() if span.start > 0]  # not the ensemble
    spans.sort(key=lambda span: span.start)
    total = max(request.seconds, *(span.end for span in spans))
    scale = (_WIDTH - _LEFT - 30) / total
    height = _TOP + _ROW * len(spans) + 40
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="24">One request, by Triton\'s own trace: '
        f"{request.seconds * 1e3:.0f} ms at the client</text>",
    ]
    for row, (span, colour) in enumerate(zip(spans, _COLOURS, strict=False)):
        y = _TOP + row * _ROW
        lines.append(f'<text x="{_LEFT - 10}" y="{y + 16}" text-anchor="end">{span.model}</text>')
        for (start, end), opacity in (((span.start, span.end), 0.3), (span.compute, 1.0)):
            lines.append(
                f'<rect x="{_LEFT + start * scale:.1f}" y="{y}" height="{_ROW - 12}" '
                f'width="{max(1.0, (end - start) * scale):.1f}" fill="{colour}" '
                f'opacity="{opacity}"/>'
            )
        label = f"{span.seconds * 1e3:.1f} ms"
        x = _LEFT + span.end * scale + 6
        anchor, x = ("end", _LEFT + span.end * scale - 6) if x > _WIDTH - 80 else ("start", x)
        lines.append(f'<text x="{x:.1f}" y="{y + 16}" text-anchor="{anchor}">{label}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> None:
    """Serve, ask, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/trace.svg"))
    parser.add_argument("--requests", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with traced_server(options.repository, Path(folder)) as (server, path):
            seconds = [ask(server, options.max_tokens) for _ in range(1 + options.requests)]
        requests = read_trace(path, seconds)[1:]
    options.output.write_text(draw(median_request(requests)))
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()

"""What each candidate for an artifact costs and gives, side by side."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import onnxruntime as ort

from builder.optimize.calibration import Arrays
from builder.spec.precision import ArtifactPrecision
from builder.verify.measure import ParityRow

_LEAST_RUNS: Final = 5
_MOST_RUNS: Final = 31
_SECONDS: Final = 3.0
"""For the timing of all candidates together, once each of them has had its least runs."""


@dataclass(frozen=True)
class Variant:
    """One candidate.

    Attributes:
        precision: Its numbers.
        path: Its file.
        size: Bytes, weights in a file beside included.
        rows: Parity with the checkpoint, each with what is allowed.
        milliseconds: Median time of all samples, one after the other.
        speed: Times as fast as the fp32 candidate in the same measurement.
        threads: Of the measurement; 0: as many as ONNX Runtime takes.
        accuracy: Share of labelled records that are answered right; None: not asked for.
        kept: Products that stay in fp32, so that it is within its tolerance.
        products: Products with constant weights.
        failure: Why it could not be made or run; the other fields mean nothing then.
    """

    precision: ArtifactPrecision
    path: Path
    size: int = 0
    rows: list[ParityRow] = field(default_factory=list)
    milliseconds: float = 0.0
    speed: float = 0.0
    threads: int = 1
    accuracy: float | None = None
    kept: int = 0
    products: int = 0
    failure: str | None = None

    @property
    def name(self) -> str:
        """The precision, and what it leaves out."""
        rest = f" with {self.kept} of {self.products} products in fp32" if self.kept else ""
        return f"{self.precision}{rest}"

    @property
    def max_abs_error(self) -> float:
        """Largest absolute difference from the checkpoint."""
        return max((row.max_abs_error for row in self.rows), default=0.0)

    @property
    def min_cosine(self) -> float:
        """Smallest cosine with a vector of the checkpoint."""
        return min((row.min_cosine for row in self.rows), default=1.0)

    @property
    def within(self) -> bool:
        """Whether it runs and every row is within its tolerance."""
        return self.failure is None and all(row.passed for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """The row for the manifest and the report."""
        if self.failure is not None:
            return {"precision": self.precision, "failure": self.failure, "within": False}
        tolerance = self.rows[0].tolerance.model_dump() if self.rows else None
        return {
            "precision": self.precision,
            "bytes": self.size,
            "max_abs_error": self.max_abs_error,
            "min_cosine": self.min_cosine,
            "tolerance": tolerance,
            "within": self.within,
            "accuracy": self.accuracy,
            "kept_in_fp32": self.kept,
            "products": self.products,
            "milliseconds": round(self.milliseconds, 3),
            "speed": round(self.speed, 3),
            "threads": self.threads,
        }


def file_size(path: Path) -> int:
    """Bytes of an ONNX file and of the weights beside it."""
    return sum(
        part.stat().st_size
        for part in (path, path.with_name(f"{path.name}.data"))
        if part.is_file()
    )


def open_session(path: Path, threads: int) -> ort.InferenceSession:
    """A session as the server makes it, but for its log, and its threads end with a run.

    Threads that wait in a loop for the next run would take the processor of what is timed next.
    """
    options = ort.SessionOptions()
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def interleaved_medians(sides: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each side, run in turn; the first round does not count.

    A machine that is busy for a moment slows all sides then and no median.
    """
    for side in sides.values():
        side()
    times: dict[str, list[float]] = {name: [] for name in sides}
    begun = time.perf_counter()
    for run in range(_MOST_RUNS):
        if run >= _LEAST_RUNS and time.perf_counter() - begun > _SECONDS:
            break
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def time_files(
    files: Mapping[str, Path], feeds: Sequence[Arrays], threads: int
) -> dict[str, float]:
    """Median seconds that each file takes for all of `feeds`, measured in turn."""
    sessions = {name: open_session(path, threads) for name, path in files.items()}

    def side(session: ort.InferenceSession) -> Callable[[], object]:
        return lambda: [session.run(None, dict(feed)) for feed in feeds]

    return interleaved_medians({name: side(session) for name, session in sessions.items()})

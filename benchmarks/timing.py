"""What the benchmarks share: times taken in turn, lines of results, the machine."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort
import torch

from benchmarks._commit import commit
from builder.progress import Progress

THREADS = 2
PAUSE = 0.03
"""Seconds between two runs: spinning threads have stopped, caches are still warm."""


@dataclass(frozen=True)
class Row:
    """One line of the results; ratio above 1 means that ours is better."""

    case: str
    metric: str
    baseline: float
    ours: float
    ratio: float


@dataclass(frozen=True)
class Clock:
    """How a time is taken.

    Attributes:
        metric: Its name in the results.
        threads: Of each side.
        now: Seconds.
    """

    metric: str
    threads: int
    now: Callable[[], float]


WALL = Clock("ms", THREADS, time.perf_counter)
CLOCKS = (WALL, Clock("CPU ms on one thread", 1, time.process_time))
"""CPU time on one thread says the same on a busy machine, where threads wait for each other."""


def row(case: str, baseline: float, ours: float, clock: Clock = WALL) -> Row:
    """A line of two times in seconds, written in milliseconds."""
    return Row(case, clock.metric, round(baseline * 1e3, 3), round(ours * 1e3, 3), baseline / ours)


def medians(
    runs: int, sides: dict[str, Callable[[], object]], clock: Clock = WALL
) -> dict[str, float]:
    """Median seconds of each side, run in turn after one run that does not count.

    Before each run there is a pause: threads of the side before that still wait busily (ONNX
    Runtime's do for some milliseconds) would take the cores of the next.
    """
    torch.set_num_threads(clock.threads)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for run in range(runs + 1):
        for name, side in sides.items():
            time.sleep(PAUSE)
            start = clock.now()
            side()
            if run:
                times[name].append(clock.now() - start)
    torch.set_num_threads(THREADS)
    return {name: statistics.median(values) for name, values in times.items()}


def session(path: Path, threads: int = THREADS) -> ort.InferenceSession:
    """ONNX Runtime with its defaults but for the threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")  # when a run ends
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def machine() -> dict[str, Any]:
    """What it was measured on, and at which commit."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")),
        platform.processor(),
    )  # fmt: skip
    return {"cpu": cpu, "onnxruntime": ort.__version__, "torch": torch.__version__,
            "commit": commit()}  # fmt: skip


def settle(seconds: float) -> None:
    """Wait until the machine is quiet, at most so long."""
    end = time.monotonic() + seconds
    while os.getloadavg()[0] > 1 and time.monotonic() < end:
        time.sleep(2)


class Unseen(Progress):
    """A build's progress that nobody reads."""

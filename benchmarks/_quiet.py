"""Medians of rounds that nothing else on the machine disturbed."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CHUNK = 0.3
"""Seconds: processor time is counted in hundredths, so shorter spans say little."""
MOST = 0.08
"""Share of the processors that others may take while a chunk of rounds is measured."""

PAUSE = 0.02
"""Seconds after each side: threads that spin for more work would take the next side's processor.

Ours stop at once (`session.force_spinning_stop`), torch's within this time.
"""


@dataclass(frozen=True)
class Timing:
    """Median seconds of each side, and what the rest of the machine did meanwhile.

    Attributes:
        seconds: Side -> median.
        rounds: Rounds behind the medians.
        others: Largest share of the processors that other processes took during them.
    """

    seconds: dict[str, float]
    rounds: int
    others: float


def _busy() -> tuple[float, float]:
    """Processor seconds that the machine spent so far, and this process."""
    fields = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _, _, irq, softirq, steal = fields
    machine = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    own = os.times()
    return machine, own.user + own.system


def timed(side: Callable[[], object]) -> tuple[float, float]:
    """Seconds of one run, and the share of the processors that others took meanwhile."""
    machine, own = _busy()
    begun = time.perf_counter()
    side()
    spent = time.perf_counter() - begun
    machine_now, own_now = _busy()
    taken = (machine_now - machine) - (own_now - own)
    return spent, max(taken, 0.0) / spent / (os.cpu_count() or 1)


def undisturbed(
    sides: dict[str, Callable[[], object]], seconds: float, patience: float = 3.0
) -> Timing:
    """Run sides in turn and keep the rounds in which other processes took next to nothing.

    A thread that is pushed off its processor holds up the one that waits for it, and torch's waits
    far longer than ONNX Runtime's: a disturbed round says nothing about either.

    Args:
        sides: What is timed; each is run once before.
        seconds: For the rounds that are kept; there is at least one.
        patience: Times `seconds` (and a round) that may pass until there are enough. Then the
            least disturbed chunk counts, and `others` says how disturbed.
    """
    start = time.perf_counter()
    for side in sides.values():
        side()
    once = time.perf_counter() - start
    end = time.perf_counter() + patience * max(seconds, once)
    kept: list[tuple[float, dict[str, list[float]]]] = []
    spare: list[tuple[float, dict[str, list[float]]]] = []
    measured = 0.0
    while measured < seconds and (time.perf_counter() < end or not (kept or spare)):
        times: dict[str, list[float]] = {name: [] for name in sides}

        def chunk(times: dict[str, list[float]] = times) -> None:
            begun = time.perf_counter()
            while True:
                for name, side in sides.items():
                    start = time.perf_counter()
                    side()
                    times[name].append(time.perf_counter() - start)
                    time.sleep(PAUSE)
                if time.perf_counter() - begun >= CHUNK:
                    break

        spent, others = timed(chunk)
        if others <= MOST:
            kept.append((others, times))
            measured += spent
        else:
            spare.append((others, times))
    chunks = kept or [min(spare, key=lambda chunk: chunk[0])]
    values = {name: [t for _, times in chunks for t in times[name]] for name in sides}
    return Timing(
        {name: statistics.median(found) for name, found in values.items()},
        len(next(iter(values.values()))),
        max(others for others, _ in chunks),
    )

"""The `perf_analyzer` program: where it is, and one run of it."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.bench.report import Measurement, parse
from builder.errors import ToolError

_UNSTABLE = "Failed to obtain stable measurement"
# So wide that three windows always agree: the way to get a report from a noisy machine.
_ANY_PERCENTAGE = 10_000


@dataclass(frozen=True)
class Load:
    """How a model is loaded with requests."""

    url: str
    """`host:port` of the server's gRPC endpoint."""
    concurrency: int
    streaming: bool = False
    """One gRPC stream a client, for decoupled models."""
    input_data: str | None = None
    """`random`, `zero` or a JSON file; None: perf_analyzer's default, random."""
    shapes: Sequence[str] = ()
    """`NAME:D1,D2` for inputs whose dims vary."""
    interval_ms: int = 2000
    """Length of a measurement window; it measures until three in a row agree."""
    stability_percentage: int = 15
    max_trials: int = 10


def find_perf_analyzer() -> Path:
    """The program that scripts/install_native_libs.sh installs, else one on PATH."""
    native = Path(sys.prefix) / "native" / "bin" / "perf_analyzer"
    if native.exists():
        return native
    if found := shutil.which("perf_analyzer"):
        return Path(found)
    raise ToolError(
        f"perf_analyzer is not installed; run scripts/install_native_libs.sh {sys.prefix}"
    )


def measure(model: str, load: Load) -> Measurement:
    """Run perf_analyzer on one model at one concurrency.

    On a machine too noisy for the asked stability the run is repeated once without that demand,
    and the measurement says `stable=False`.

    Raises `ToolError` with perf_analyzer's own words when it fails.
    """
    with tempfile.TemporaryDirectory(prefix="builder-bench-") as folder:
        report = Path(folder) / "report.csv"
        done = _run(model, load, report, load.stability_percentage)
        stable = _UNSTABLE not in done.stdout + done.stderr
        if not stable:
            report.unlink(missing_ok=True)
            done = _run(model, load, report, _ANY_PERCENTAGE)
        if done.returncode or not report.exists():
            raise ToolError(f"perf_analyzer on model '{model}': {_reason(done)}")
        (measurement,) = parse(model, report.read_text(), done.stdout, stable=stable)
        return measurement


def _run(model: str, load: Load, report: Path, stability: int) -> subprocess.CompletedProcess[str]:
    command = [
        str(find_perf_analyzer()),
        *("-m", model, "-u", load.url, "-i", "grpc"),
        *("--concurrency-range", f"{load.concurrency}:{load.concurrency}:1"),
        *("--measurement-interval", str(load.interval_ms)),
        *("--stability-percentage", str(stability)),
        *("--max-trials", str(load.max_trials)),
        *("-f", str(report), "--verbose-csv"),
    ]
    if load.streaming:
        command += ["--streaming", "--async"]
    if load.input_data:
        command += ["--input-data", load.input_data]
    for shape in load.shapes:
        command += ["--shape", shape]
    return subprocess.run(  # noqa: S603 (arguments are one list, no shell)
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LD_LIBRARY_PATH": _library_path()},
    )


def _library_path() -> str:
    folders = [str(Path(sys.prefix) / "native" / "lib")]
    found = importlib.util.find_spec("nvidia.cuda_runtime")
    for location in (found.submodule_search_locations or ()) if found else ():
        folders.append(str(Path(location) / "lib"))
    folders.append(os.environ.get("LD_LIBRARY_PATH", ""))
    return os.pathsep.join(folder for folder in folders if folder)


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    missing = "error while loading shared libraries"
    if missing in done.stderr:
        library = done.stderr.split(f"{missing}: ", 1)[-1].split(":", 1)[0]
        return f"{library} is missing; run scripts/install_native_libs.sh {sys.prefix}"
    # The tail of stdout repeats what stderr says about failing threads, or says it alone.
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return " ".join(dict.fromkeys(lines[-3:])) or f"it ended with status {done.returncode}"

"""The servers under test; those that can be are stopped (SIGSTOP) while others are measured."""

import contextlib
import os
import subprocess
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from builder.serve import TritonServer
from builder.serve.ports import find_free

ROOT = Path(__file__).parents[2]
BENCH_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
"""FastAPI and LitServe live there, with the torch and transformers of .venv."""
THREADS = 2
_READY_SECONDS = 120.0


@dataclass
class Side:
    """A running server.

    Attributes:
        name: Of the side in the results.
        protocol: `grpc` or `http`.
        url: HOST:PORT.
        process: The root of its processes.
        pausable: Whether it may be stopped between runs.
    """

    name: str
    protocol: str
    url: str
    process: psutil.Process
    pausable: bool = True

    def processes(self) -> list[psutil.Process]:
        """All of its processes."""
        return [self.process, *self.process.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Processor time that it took so far."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def pause(self) -> None:
        """Take no processor time: some servers poll while they wait."""
        if self.pausable:
            for process in self.processes():
                process.suspend()

    def resume(self) -> None:
        """Go on."""
        if self.pausable:
            for process in reversed(self.processes()):
                process.resume()


def _environment(model: Path, more: Mapping[str, str]) -> dict[str, str]:
    threads = {"BENCH_THREADS": str(THREADS), "OMP_NUM_THREADS": str(THREADS)}
    return {
        **os.environ,
        **threads,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "BENCH_MODEL": str(model),
        "PYTHONPATH": str(ROOT),
        **more,
    }


@contextlib.contextmanager
def _started(
    command: list[str], environment: dict[str, str], ready: Callable[[], bool]
) -> Iterator[psutil.Process]:
    log = Path(environment["BENCH_LOG"])
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, cwd=ROOT)
    try:
        deadline = time.monotonic() + _READY_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(command)} is not up:\n{log.read_text()[-3000:]}")
            time.sleep(0.3)
        yield psutil.Process(process.pid)
    finally:
        children = []
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(process.pid)
            children = [root, *root.children(recursive=True)]
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.resume()
        process.terminate()
        _, alive = psutil.wait_procs(children, timeout=15)
        for child in alive:
            with contextlib.suppress(psutil.Error):
                child.kill()
        process.wait(10)


def _http_is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - loopback
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _triton_is_up(url: str) -> bool:
    try:
        return bool(InferenceServerClient(url).is_model_ready("minilm"))
    except InferenceServerException:
        return False


@contextlib.contextmanager
def ours(name: str, repository: Path) -> Iterator[Side]:
    """A built repository; its threads are instances times threads of its config."""
    before = {child.pid for child in psutil.Process().children()}
    with TritonServer(repository, env={"OMP_NUM_THREADS": "1"}) as server:
        new = [child for child in psutil.Process().children() if child.pid not in before]
        root = next(child for child in new if child.children() or "triton" in child.name())
        yield Side(name, "grpc", server.grpc_url, root, pausable=False)


@contextlib.contextmanager
def fastapi(name: str, style: str, model: Path, scratch: Path) -> Iterator[Side]:
    """uvicorn with one worker: the model's threads already are all that may be used."""
    (port,) = find_free(1)
    command = [
        str(BENCH_PYTHON), "-m", "uvicorn", "benchmarks.serving.apps.fastapi_app:app",
        "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning",
        "--no-access-log",
    ]  # fmt: skip
    more = {"BENCH_STYLE": style, "BENCH_LOG": str(scratch / f"{name}.log")}
    with _started(
        command,
        _environment(model, more),
        lambda: _http_is_up(f"http://127.0.0.1:{port}/health"),
    ) as process:
        yield Side(name, "http", f"127.0.0.1:{port}", process)


@contextlib.contextmanager
def litserve(name: str, batch_seconds: str, model: Path, scratch: Path) -> Iterator[Side]:
    """LitServe with one worker and one API server."""
    (port,) = find_free(1)
    more = {
        "BENCH_PORT": str(port),
        "BENCH_BATCH_SECONDS": batch_seconds,
        "BENCH_LOG": str(scratch / f"{name}.log"),
    }
    command = [str(BENCH_PYTHON), "-m", "benchmarks.serving.apps.litserve_app"]
    with _started(
        command,
        _environment(model, more),
        lambda: _http_is_up(f"http://127.0.0.1:{port}/health"),
    ) as process:
        yield Side(name, "http", f"127.0.0.1:{port}", process)


@contextlib.contextmanager
def pytriton(name: str, delay_us: str, model: Path, scratch: Path) -> Iterator[Side]:
    """pytriton, its model in the process that starts it."""
    ports = find_free(3)
    port = ports[0]
    more = {
        # Its stub must find the libpython of the very interpreter whose library it reads.
        "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR"),
        "BENCH_PORTS": ",".join(map(str, ports)),
        "BENCH_DELAY_US": delay_us,
        "BENCH_LOG": str(scratch / f"{name}.log"),
    }
    command = [str(ROOT / ".venv" / "bin" / "python"), "-m", "benchmarks.serving.apps.pytriton_app"]
    with _started(
        command, _environment(model, more), lambda: _triton_is_up(f"127.0.0.1:{port}")
    ) as process:
        # The Triton inside is a child that watches its parent's pipes: it is not stopped.
        yield Side(name, "grpc", f"127.0.0.1:{port}", process, pausable=False)

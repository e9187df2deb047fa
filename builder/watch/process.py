"""The `tritonserver` process of a container: its log is the container's."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence

from builder.watch.shared_memory import hide_regions, remove_regions

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.2


class StartError(RuntimeError):
    """The server did not get ready; its log says why."""


class ServerProcess:
    """One `tritonserver`, in a process group of its own with its stubs."""

    def __init__(
        self,
        command: "Sequence[str]",
        environment: "Mapping[str, str]",
        shm_prefix: str,
        start_seconds: float,
    ) -> None:
        """Prepare.

        Args:
            command: The server and its options.
            environment: Its variables.
            shm_prefix: Prefix of its shared-memory regions.
            start_seconds: How long the models may take to load.
        """
        self.pid: int | None = None
        self._command = list(command)
        self._environment = dict(environment)
        self._prefix = shm_prefix
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False

    @property
    def grpc_url(self) -> str:
        """HOST:PORT of its gRPC endpoint."""
        return f"127.0.0.1:{self._port('grpc-port', 8001)}"

    @property
    def metrics_url(self) -> str:
        """URL of its metrics."""
        return f"http://127.0.0.1:{self._port('metrics-port', 8002)}/metrics"

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int:
        """Its last exit status."""
        return 0 if self._process is None else self._process.returncode or 0

    def _port(self, option: str, default: int) -> int:
        value = option_value(self._command, option)
        return int(value) if value and value.isdecimal() else default

    def start(self) -> None:
        """Start, and wait until every model is loaded.

        Raises:
            StartError: it ended, or was not ready in time.
        """
        self._process = subprocess.Popen(  # noqa: S603 (what the image or its user says)
            self._command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 (nothing is locked at this time)
        )
        self.pid = self._process.pid
        deadline = time.monotonic() + self._start_seconds
        while not self._is_ready():
            if self._ended or not self.running:
                raise StartError(f"tritonserver ended with status {self.status}; see its log")
            if time.monotonic() > deadline:
                self.stop(0.0)
                raise StartError(f"tritonserver was not ready after {self._start_seconds:g} s")
            time.sleep(_POLL_SECONDS)
        hide_regions(self._prefix)

    def _is_ready(self) -> bool:
        port = self._port("http-port", 8000)
        with contextlib.suppress(OSError, ValueError):
            url = f"http://127.0.0.1:{port}/v2/health/ready"
            with urllib.request.urlopen(url, timeout=2.0) as answer:
                return int(answer.status) == 200
        return False

    def stop(self, grace: "float | None" = None) -> None:
        """End it: SIGTERM, and SIGKILL after `grace` seconds (30), for it and its stubs."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(30.0 if grace is None else grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # stubs that a killed server leaves
        remove_regions(self._prefix)

    def interrupt(self) -> None:
        """Let a start end: told to stop meanwhile."""
        self._ended = True


def option_value(arguments: "Sequence[str]", name: str) -> "str | None":
    """The value of `--name=value` or `--name value`; the last one counts."""
    value = None
    for place, argument in enumerate(arguments):
        if argument.startswith(f"--{name}="):
            value = argument.partition("=")[2]
        elif argument == f"--{name}" and place + 1 < len(arguments):
            value = arguments[place + 1]
    return value


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

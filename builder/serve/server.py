"""A local `tritonserver` as a context manager."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from builder.errors import ServerError
from builder.serve import supervisor
from builder.serve.layout import Layout, assemble, find_caches
from builder.serve.log import summarize
from builder.serve.ports import check_free, find_free
from builder.watch.shared_memory import restrict

_LOOPBACK = "127.0.0.1"
_BIND_ATTEMPTS = 3
_GRACE_SECONDS = 10.0
_LAST_ENDPOINT = "Started Metrics Service"
_ENDPOINTS_SECONDS = 3.0


class TritonServer:
    """A real `tritonserver` on a model repository.

        with TritonServer("model_repository") as server:
            server.client.infer("vision", inputs)

    Ports that are not given are free ones, so servers run side by side. The server ends with the
    `with` block or with this process, whatever ends first and however, and leaves no process,
    shared memory or folder behind. One that was stopped can be started again, at the same ports.

    Args:
        model_repository: folder of models.
        grpc_port, http_port, metrics_port: ports; None: a free one.
        host: address to listen on; 0.0.0.0 lets other machines in.
        explicit: load nothing at the start (`--model-control-mode=explicit`); load and unload
            with `client.load_model(name, config=, files=)` and `client.unload_model(name)`.
        load: models to load at the start; implies `explicit`.
        client_shared_memory: let clients register shared memory. Any region of the machine that
            its user may write to can be named, the Python backend's own included.
        args: further arguments of `tritonserver`, last, so that they win.
        log_file: keep the log here; None: it ends with the server (`log_text` still has it).
        log_verbose: Triton's verbosity, 0 to 9.
        env: variables set for the server and its Python stages on top of ours.
        timeout: seconds until the server must be ready.
        grace: seconds that requests under way get when it is stopped; then it is killed.

    Raises (on entering):
        ServerError: the repository, a port or a library is missing, a model does not load, or
            the server is not ready in time; the message quotes the server's log.
    """

    def __init__(
        self,
        model_repository: Path | str,
        *,
        grpc_port: int | None = None,
        http_port: int | None = None,
        metrics_port: int | None = None,
        host: str = _LOOPBACK,
        explicit: bool = False,
        load: Sequence[str] = (),
        client_shared_memory: bool = False,
        args: Sequence[str] = (),
        log_file: Path | str | None = None,
        log_verbose: int = 0,
        env: Mapping[str, str] | None = None,
        timeout: float = 120.0,
        grace: float = _GRACE_SECONDS,
    ) -> None:
        self.model_repository = Path(model_repository)
        self.grpc_port = grpc_port or 0
        self.http_port = http_port or 0
        self.metrics_port = metrics_port or 0
        self.shm_prefix = f"builder-{os.getpid()}-{secrets.token_hex(4)}-"
        self.pid: int | None = None
        """Process id of `tritonserver` while it runs."""
        self._asked_ports = {
            "--grpc-port": grpc_port,
            "--http-port": http_port,
            "--metrics-port": metrics_port,
        }
        self._host = host
        self._explicit = explicit or bool(load)
        self._load = tuple(load)
        self._args = tuple(args)
        self._restricted = () if client_shared_memory else tuple(restrict(self._args))
        self._log_file = Path(log_file).resolve() if log_file else None
        self._log_verbose = log_verbose
        self._env = dict(env or {})
        self._timeout = timeout
        self._grace = grace
        self._folder: Path | None = None
        self._process: subprocess.Popen[str] | None = None
        self._client: InferenceServerClient | None = None
        self._log = ""
        self._log_start = 0
        self._started = False
        self._caches: set[Path] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def grpc_url(self) -> str:
        """`host:port` of the gRPC endpoint."""
        return f"{_LOOPBACK}:{self.grpc_port}"

    @property
    def http_url(self) -> str:
        """`host:port` of the HTTP endpoint."""
        return f"{_LOOPBACK}:{self.http_port}"

    @property
    def metrics_url(self) -> str:
        """URL of the Prometheus metrics."""
        return f"http://{_LOOPBACK}:{self.metrics_port}/metrics"

    @property
    def client(self) -> InferenceServerClient:
        """A gRPC client of this server, closed with it."""
        if self._client is None:
            self._client = InferenceServerClient(self.grpc_url)
        return self._client

    @property
    def running(self) -> bool:
        """Whether the server's process is alive."""
        return self._process is not None and self._process.poll() is None

    def models(self) -> list[dict[str, str]]:
        """The repository index: `name`, `version`, `state` and `reason` of every model."""
        index: dict[str, Any] = self.client.get_model_repository_index(as_json=True)
        keys = ("name", "version", "state", "reason")
        return [{key: model.get(key, "") for key in keys} for model in index.get("models", [])]

    @property
    def log_end(self) -> int:
        """Where the log ends now, in bytes: a mark for `log_text(since=...)`."""
        path = self._log_path()
        return path.stat().st_size if path and path.exists() else len(self._log.encode())

    def log_text(self, since: int = 0) -> str:
        """The server's log from byte `since` on; also after the server has ended."""
        path = self._log_path()
        if path and path.exists():
            with path.open("rb") as file:
                file.seek(since)
                return file.read().decode(errors="replace")
        return self._log.encode()[since:].decode(errors="replace")

    def log_summary(self) -> str:
        """One line for an error message: failing models and why, else the last errors."""
        return summarize(self._own_log())

    def _own_log(self) -> str:
        """The log of the process that was started last."""
        return self.log_text(since=self._log_start)

    def start(self) -> None:
        """Start and wait until every model is ready."""
        if self._process is not None:
            raise ServerError("this server has already been started")
        if not self.model_repository.is_dir():
            raise ServerError(f"model repository {self.model_repository} is not a folder")
        for option, port in self._asked_ports.items():
            if port is not None:
                check_free(port, option)
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="builder-serve-"))
            layout = assemble(self._folder)
            self._caches = find_caches(self.model_repository)
            for attempt in range(1, _BIND_ATTEMPTS + 1):
                self._launch(layout)
                if self._wait_until_ready(last=attempt == _BIND_ATTEMPTS):
                    self._started = True
                    found = (self.grpc_port, self.http_port, self.metrics_port)
                    self._asked_ports = dict(zip(self._asked_ports, found, strict=True))
                    return
                self._end_process()
        except BaseException:
            self.stop()
            raise

    def stop(self, grace: float | None = None) -> None:
        """End the server; safe to call twice.

        Args:
            grace: Seconds that requests under way get before it is killed; None: its own.
        """
        self._end_process(grace)
        supervisor.remove_shared_memory(self.shm_prefix)
        if self._folder is not None:
            self._log = self.log_text()
            for folder in (self._folder, *self._new_caches()):
                shutil.rmtree(folder, ignore_errors=True)
            self._folder = None

    def wait(self) -> int:
        """Block until the server ends on its own; its exit status."""
        if self._process is None:
            raise ServerError("this server has not been started")
        return self._process.wait()

    def _new_caches(self) -> set[Path]:
        return set() if self._caches is None else find_caches(self.model_repository) - self._caches

    def _log_path(self) -> Path | None:
        if self._log_file is not None:
            return self._log_file
        return self._folder / "server.log" if self._folder else None

    def _launch(self, layout: Layout) -> None:
        assert self._folder is not None
        log = self._log_path()
        assert log is not None
        again = self._started and self._log_file is not None
        try:
            with log.open("ab" if again else "wb") as file:
                self._log_start = file.tell()
        except OSError as error:
            raise ServerError(f"log file {log} cannot be written: {error.strerror}") from error
        free = iter(find_free(3))
        grpc, http, metrics = (port or next(free) for port in self._asked_ports.values())
        self.grpc_port, self.http_port, self.metrics_port = grpc, http, metrics
        job = {
            "command": self._command(layout),
            "shm_prefix": self.shm_prefix,
            "log": str(log),
            "folder": str(self._folder),
            "parent": os.getpid(),
            "grace_seconds": self._grace,
        }
        self._process = subprocess.Popen(  # noqa: S603 (our own script)
            [sys.executable, "-I", "-S", supervisor.__file__, json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment(layout),
            start_new_session=True,  # Ctrl-C reaches us, and we stop the server
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise ServerError(f"{layout.binary} could not be started")
        self.pid = int(line)

    def _command(self, layout: Layout) -> list[str]:
        options = {
            "model-repository": self.model_repository.resolve(),
            "backend-directory": layout.backends,
            "cache-directory": layout.caches,
            "grpc-port": self.grpc_port,
            "http-port": self.http_port,
            "metrics-port": self.metrics_port,
            "grpc-address": self._host,
            "http-address": self._host,
            "metrics-address": self._host,
            "http-thread-count": 2,
            "exit-timeout-secs": max(int(self._grace) - 2, 1),
            "log-verbose": self._log_verbose,
        }
        command = [str(layout.binary), *(f"--{name}={value}" for name, value in options.items())]
        command += [
            f"--backend-config={name},shm-region-prefix-name={self.shm_prefix}"
            for name in layout.python_backends
        ]
        if self._explicit:
            command.append("--model-control-mode=explicit")
        command += [f"--load-model={name}" for name in self._load]
        return [*command, *self._restricted, *self._args]

    def _environment(self, layout: Layout) -> dict[str, str]:
        # The stub embeds Python and finds its packages through the first python3 on PATH.
        folder = str(Path(sys.executable).parent)
        environment = {
            # A stage's numpy is for bookkeeping; ONNX Runtime has threads of its own.
            "OPENBLAS_NUM_THREADS": "1",
            **os.environ,
            "PATH": os.pathsep.join((folder, os.environ.get("PATH", ""))),
            "LD_LIBRARY_PATH": layout.library_path,
        }
        for name in ("PYTHONHOME", "PYTHONPATH"):
            environment.pop(name, None)
        return {**environment, **self._env}

    def _wait_until_ready(self, *, last: bool) -> bool:
        """True when ready, False when a drawn port was taken meanwhile and a retry makes sense."""
        assert self._process is not None
        deadline = time.monotonic() + self._timeout
        ready_since: float | None = None
        started = False
        while time.monotonic() < deadline:
            # With a taken port for metrics Triton goes on without them; with another it ends.
            taken = ready_since is not None and _port_was_taken(self._own_log())
            if taken or self._process.poll() is not None:
                drawn = None in self._asked_ports.values()
                if drawn and not last and _port_was_taken(self._own_log()):
                    return False
                raise ServerError(
                    f"tritonserver did not load {self.model_repository}: {self.log_summary()}"
                )
            with contextlib.suppress(InferenceServerException):
                if self.client.is_server_ready(client_timeout=2.0):
                    ready_since = ready_since or time.monotonic()
            # gRPC starts first. Wait for the last endpoint, and once more around: Triton finds a
            # taken port only after it has logged the endpoint as started. An argument may have
            # switched that endpoint off.
            if started or (
                ready_since is not None and time.monotonic() - ready_since > _ENDPOINTS_SECONDS
            ):
                return True
            started = ready_since is not None and _LAST_ENDPOINT in self._own_log()
            time.sleep(0.05)
        raise ServerError(
            f"tritonserver on {self.model_repository} was not ready after "
            f"{self._timeout:g} seconds: {self.log_summary()}"
        )

    def _end_process(self, grace: float | None = None) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        process, self._process, self.pid = self._process, None, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            if grace is not None:
                process.stdin.write(f"{grace}\n")
            process.stdin.close()  # the supervisor ends the server
        process.wait()
        process.stdout.close()


def _port_was_taken(log: str) -> bool:
    return any("failed to start" in line and "in use" in line for line in log.splitlines())

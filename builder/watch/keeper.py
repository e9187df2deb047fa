"""Starts a server, watches it, and starts it again when a model can't answer or it has ended.

Why the whole server: what Triton 24.10 does after a stub was killed was tried. Loading its model
again (`explicit` mode only) makes new requests work, but requests inside the dead stub are never
ended, whatever is loaded or unloaded, and such a server does not end on SIGTERM either. A server
process that is killed ends every stream with UNAVAILABLE, and comes back whole in every mode.
"""

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from builder.watch.health import Health
from builder.watch.watcher import Fault, Watcher, WatchSettings

LOOK_SECONDS = 0.5
DRAIN_SECONDS = 3.0
"""So long answers of the other models may go on, before the server is killed."""

_MOST_RESTARTS = 5
_WINDOW_SECONDS = 600.0
_PAUSES = (0.0, 1.0, 5.0, 20.0)
"""Seconds before the first restart within the window, the second ..., the last ones."""


class Server(Protocol):
    """What the keeper needs of a server."""

    pid: "int | None"

    @property
    def grpc_url(self) -> str:
        """HOST:PORT of its gRPC endpoint."""

    @property
    def metrics_url(self) -> str:
        """URL of its metrics."""

    @property
    def running(self) -> bool:
        """Whether its process is alive."""

    def start(self) -> None:
        """Start, and wait until it is ready; again at the same ports. Raises where it can't."""

    def stop(self, grace: "float | None" = None) -> None:
        """End it within `grace` seconds; None: within its own time."""


class GaveUpError(RuntimeError):
    """The server could not be kept alive."""


class Keeper:
    """Keeps one server answering."""

    def __init__(
        self,
        server: Server,
        repository: "Path | None",
        health: Health,
        say: "Callable[[str], None]",
        settings: "WatchSettings | None" = None,
        drain: float = DRAIN_SECONDS,
    ) -> None:
        """Prepare.

        Args:
            server: Not started yet.
            repository: Its models' folder; None: it is no local one.
            health: Told how it is.
            say: Told in one sentence what goes wrong and what is done.
            settings: How it is watched.
            drain: Seconds that requests of other models get before a restart.
        """
        self._server = server
        self._repository = repository
        self._health = health
        self._say = say
        self._settings = settings or WatchSettings()
        self._drain = drain
        self._refusing: dict[str, bool] = {}
        self._restarts: deque[float] = deque()
        self._total = 0
        self._fault = ""

    def start(self) -> None:
        """Start the server; raises what its `start` raises."""
        self._health.update("starting", busy=True)
        self._server.start()

    def keep(self, stopped: "Callable[[float], bool]") -> None:
        """Watch until told to stop.

        Args:
            stopped: Waits so many seconds, or until it is told to stop: True then.

        Raises:
            GaveUpError: it had to be started again too often, or could not be.
        """
        while (fault := self._watch(stopped)) is not None:
            self._fault = str(fault)
            while not self._restart(stopped):
                if stopped(0.0):
                    return
        self._health.update("stopping")

    def _watch(self, stopped: "Callable[[float], bool]") -> "Fault | None":
        """The next fault; None where it is told to stop."""
        assert self._server.pid is not None
        watcher = Watcher(
            self._server.pid,
            self._server.grpc_url,
            self._server.metrics_url,
            self._repository,
            self._settings,
            self._refusing,
        )
        try:
            while not stopped(LOOK_SECONDS):
                fault = watcher.look()
                if not self._server.running:
                    fault = Fault((), "tritonserver has ended on its own")
                self._tell(watcher, fault)
                if fault is not None:
                    return fault
            return None
        finally:
            watcher.close()

    def _tell(self, watcher: Watcher, fault: "Fault | None") -> None:
        ready = fault is None and watcher.ready()
        state = "ready" if ready else "waiting" if fault is None else "faulty"
        self._health.update(
            state,
            ready=ready,
            models=watcher.report(),
            restarts=self._total,
            last_fault=self._fault,
        )

    def _restart(self, stopped: "Callable[[float], bool]") -> bool:
        """End the server and start it again; False where it could not, or is told to stop."""
        self._total += 1
        self._say(f"{self._fault}; starting tritonserver again")
        self._health.update("restarting", busy=True, last_fault=self._fault, restarts=self._total)
        # At once: what hangs inside is ended with UNAVAILABLE.
        self._server.stop(self._drain)
        now = time.monotonic()
        while self._restarts and now - self._restarts[0] > _WINDOW_SECONDS:
            self._restarts.popleft()
        if len(self._restarts) >= _MOST_RESTARTS:
            raise GaveUpError(
                f"tritonserver was started again {_MOST_RESTARTS} times within "
                f"{_WINDOW_SECONDS / 60:.0f} minutes; at last for {self._fault}"
            )
        pause = _PAUSES[min(len(self._restarts), len(_PAUSES) - 1)]
        self._restarts.append(now)
        if stopped(pause):
            return False
        try:
            self._server.start()
        except Exception as error:  # whatever it is, it may pass
            self._fault = str(error)
            return False
        return True

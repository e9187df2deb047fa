"""The entry point of a container: a watched `tritonserver`.

WATCH                  off: become tritonserver, unwatched
WATCH_HEALTH_PORT      port of /v2/health/ready and /v2/health/live, 8003
WATCH_INTERVAL         seconds between two canaries of a model, 10
WATCH_DEADLINE         seconds that a model may answer neither its canary nor anybody else, 20
WATCH_START_SECONDS    seconds that the models may take to load, 600
WATCH_STOP_SECONDS     seconds that requests under way get at a stop, 30
"""

import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from builder.watch.health import Health, HealthEndpoint
from builder.watch.keeper import GaveUpError, Keeper
from builder.watch.process import ServerProcess, StartError, option_value
from builder.watch.shared_memory import new_prefix, restrict
from builder.watch.watcher import WatchSettings

_EXIT_MARGIN = 2
"""Seconds that Triton's own exit timeout ends before ours."""


def serve(
    command: "Sequence[str]",
    environment: "Mapping[str, str]",
    python_backends: "Sequence[str]" = ("python",),
) -> int:
    """Run a server until SIGTERM; the exit status.

    Args:
        command: `tritonserver` and its options.
        environment: Its variables.
        python_backends: Names of backends whose stubs share memory.
    """
    prefix = new_prefix()
    stop_seconds = _seconds("WATCH_STOP_SECONDS", 30.0)
    options = [f"--backend-config={b},shm-region-prefix-name={prefix}" for b in python_backends]
    if option_value(command, "exit-timeout-secs") is None:
        options.append(f"--exit-timeout-secs={max(int(stop_seconds) - _EXIT_MARGIN, 1)}")
    full = [command[0], *options, *restrict(command), *command[1:]]
    if os.environ.get("WATCH", "").lower() in {"off", "0", "false"}:
        os.execvpe(full[0], full, dict(environment))  # noqa: S606 (no shell to avoid)
    server = ServerProcess(full, environment, prefix, _seconds("WATCH_START_SECONDS", 600.0))
    stopped = threading.Event()

    def stop(number: int, frame: "FrameType | None") -> None:
        stopped.set()
        server.interrupt()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    health = Health()
    try:
        endpoint = HealthEndpoint(health, "0.0.0.0", int(_seconds("WATCH_HEALTH_PORT", 8003)))  # noqa: S104 (a container's network is its own)
    except OSError as error:
        _say(f"the health port can't be listened on: {error.strerror}; set WATCH_HEALTH_PORT")
        return 2
    settings = WatchSettings(
        interval=_seconds("WATCH_INTERVAL", 10.0), deadline=_seconds("WATCH_DEADLINE", 20.0)
    )
    keeper = Keeper(server, _repository(command), health, _say, settings)
    try:
        keeper.start()
        keeper.keep(stopped.wait)
    except (GaveUpError, StartError) as error:
        if not stopped.is_set():
            _say(str(error))
            return server.status or 1
    finally:
        server.stop(stop_seconds)
        endpoint.close()
    return 0


def _repository(command: "Sequence[str]") -> "Path | None":
    """The models' folder, where it is a local one."""
    value = option_value(command, "model-repository") or option_value(command, "model-store")
    return Path(value) if value and Path(value).is_dir() else None


def _seconds(name: str, default: float) -> float:
    text = os.environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        _say(f"{name} is {text!r}; it must be a number of 0 or more")
        sys.exit(2)
    return value


def _say(text: str) -> None:
    print(f"watch: {text}", file=sys.stderr, flush=True)

"""The process between us and `tritonserver`; a script of its own, standard library only.

    python -I supervisor.py '{"command": [...], "shm_prefix": "...", "log": "...", "folder": "..."}'

It starts the server, prints its pid, and ends it (SIGTERM, later SIGKILL) when its standard input
closes or its parent is gone. A number on that input says how many seconds the server then has
between the two. So a server never outlives whoever started it, even one killed with
SIGKILL. PR_SET_PDEATHSIG on the server alone would not do: it fires when the *thread* that
started the child ends, and leaves the shared memory of the Python backend behind.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 1.0


def remove_shared_memory(prefix: str) -> None:
    """Remove the Python backend's regions: files of /dev/shm whose name starts with `prefix`."""
    for path in Path("/dev/shm").glob(f"{prefix}*"):  # noqa: S108 (Linux' place for them)
        with contextlib.suppress(OSError):
            path.unlink()


def hide_shared_memory(prefix: str) -> None:
    """Let nobody but their user read the regions: the Python backend sets mode 0644 itself."""
    for path in Path("/dev/shm").glob(f"{prefix}*"):  # noqa: S108 (Linux' place for them)
        with contextlib.suppress(OSError):
            path.chmod(0o600)


def _die_with_supervisor() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(server: subprocess.Popen[bytes], grace: float) -> None:
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(grace)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _end_stubs(group: int) -> None:
    """End what is left of the server's process group: stubs of a server that was killed."""
    for _ in range(50):
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            return
        time.sleep(0.02)  # until init has reaped them


def main(job: dict[str, object], parent: int) -> int:
    """Run the server until it ends or its starter does; the server's exit status."""
    grace = float(str(job["grace_seconds"]))
    with Path(str(job["log"])).open("ab") as log:
        command = job["command"]
        assert isinstance(command, list)
        server = subprocess.Popen(  # noqa: S603 (the command is TritonServer's)
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_supervisor,  # noqa: PLW1509 (this process has one thread)
        )
    print(server.pid, flush=True)
    ended = os.pidfd_open(server.pid)
    orphaned = False
    while server.poll() is None:
        readable, _, _ = select.select([sys.stdin, ended], [], [], _POLL_SECONDS)
        hide_shared_memory(str(job["shm_prefix"]))
        orphaned = os.getppid() != parent
        if orphaned or sys.stdin in readable:
            asked = sys.stdin.readline().strip() if sys.stdin in readable else ""
            _end(server, float(asked) if asked else grace)
    _end_stubs(server.pid)
    remove_shared_memory(str(job["shm_prefix"]))
    if orphaned or os.getppid() != parent:
        shutil.rmtree(str(job["folder"]), ignore_errors=True)
    return server.returncode & 0xFF


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the starter decides when the server ends
    arguments = json.loads(sys.argv[1])
    sys.exit(main(arguments, int(arguments["parent"])))

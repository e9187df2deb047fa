"""Dead stubs: child processes of `tritonserver` that have ended and that it has not noticed.

The Python backend starts a process a model instance. One that is killed (by the kernel when memory
runs out, say) stays a zombie until its model is unloaded: Triton never waits for it otherwise.
Looking at the processes finds it within a second, and costs no request.
"""

from pathlib import Path

_PROC = Path("/proc")
_SCAN_EVERY = 4
"""Looks between two scans of all processes; in between only known stubs are looked at."""
_UNKNOWN = "a Python model"


class Stubs:
    """The stubs of one server process."""

    def __init__(self, server_pid: int) -> None:
        self._server = server_pid
        self._looks = 0
        self._models: dict[int, str] = {}
        self._ended: set[int] = set()

    def dead(self) -> list[str]:
        """Names of models whose stub had ended at the last look and still is there as a zombie.

        Twice, because a stub of a model that is being unloaded is a zombie for a moment.
        """
        if self._looks % _SCAN_EVERY == 0:
            self._scan()
        self._looks += 1
        before, self._ended = self._ended, set()
        for pid in list(self._models):
            state = _state(pid)
            if state is None or state[1] != self._server:
                del self._models[pid]  # waited for: its model was unloaded
            elif state[0] == "Z":
                self._ended.add(pid)
        return sorted({self._models[pid] for pid in self._ended & before})

    def _scan(self) -> None:
        for folder in _PROC.iterdir():
            if not folder.name.isdecimal():
                continue
            pid = int(folder.name)
            state = _state(pid)
            if state is None or state[1] != self._server:
                continue
            if self._models.get(pid, _UNKNOWN) == _UNKNOWN:
                self._models[pid] = _model(pid)


def _state(pid: int) -> "tuple[str, int] | None":
    """State and parent of a process; None where there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    # pid (name) state parent ...; the name may hold spaces and brackets.
    state, parent = text.rpartition(")")[2].split()[:2]
    return state, int(parent)


def _model(pid: int) -> str:
    """The model of a stub: `stub .../<model>/<version>/model.py region ...`."""
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return _UNKNOWN
    if len(words) < 3 or b"stub" not in words[0]:  # a zombie has no command line any more
        return _UNKNOWN
    return Path(words[1].decode(errors="replace")).parent.parent.name or _UNKNOWN

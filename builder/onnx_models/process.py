"""A foreign graph in a process of its own: bounded in memory and time, and one sentence if it ends.

What a graph asks for is not known before it runs: it may take any memory, loop without end, or end
its process in a library's code. None of that may happen to the builder.
"""

import importlib
import os
import pickle
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from builder.errors import BuilderError, CheckpointError

_SECONDS: Final = 50.0
_BYTES_PER_SECOND: Final = 5 << 20
"""A file has a second more for this much of it."""

_MEMORY: Final = 3 << 30
_COPIES: Final = 6
"""Bytes more that may be taken for each of the file's: two sessions, each with packed weights."""

_ORT_PREFIX: Final = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_SOURCE_PLACE: Final = re.compile(r"/onnxruntime_src/\S+:\d+ ")
_STATUS: Final = re.compile(
    r"Non-zero status code returned while running (\w+) node\. Name:'([^']*)' Status Message: "
)
_NO_MEMORY: Final = ("bad_alloc", "bad allocation", "Failed to allocate memory")


@dataclass(frozen=True)
class Bounds:
    """What a graph may take.

    Attributes:
        seconds: Until its process is ended.
        memory: Bytes of its process's own data.
    """

    seconds: float
    memory: int

    @classmethod
    def of(cls, path: Path, seconds: float | None = None, gib: float | None = None) -> "Bounds":
        """Bounds by the size of a file and of those beside it that may hold its weights.

        Args:
            path: The ONNX file.
            seconds: What a spec says; None: by the size.
            gib: The same for the memory, in GiB.
        """
        beside = (p for p in path.parent.glob(f"{path.stem}*") if p.is_file())
        size = sum(p.stat().st_size for p in {path, *beside} if p.is_file())
        return cls(
            seconds or _SECONDS + size / _BYTES_PER_SECOND,
            int(gib * (1 << 30)) if gib else _MEMORY + _COPIES * size,
        )


def said(error: Exception) -> str:
    """What a library's exception says, in one line without its codes and source places."""
    if isinstance(error, MemoryError) or any(word in str(error) for word in _NO_MEMORY):
        return "it needs more memory than it may take"
    text = _SOURCE_PLACE.sub("", _ORT_PREFIX.sub("", " ".join(str(error).split())))
    text = _STATUS.sub(r"\1 node '\2': ", text)
    return text[:240] or type(error).__name__


def run_bounded(call: str, path: Path, bounds: Bounds, *arguments: Any) -> Any:
    """Call a function with a path and arguments in a process of its own.

    Args:
        call: `module:function`.
        path: The ONNX file, the function's first argument; for messages too.
        bounds: What it may take.
        arguments: The others; they and the result are pickled.

    Raises:
        BuilderError: what the function raised.
        CheckpointError: it took more time or memory than allowed, or ended its process.
    """
    question = pickle.dumps((call, bounds.memory, (path, *arguments)))
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and code
            [sys.executable, "-c", f"from {__name__} import _serve; _serve()"],
            input=question,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=bounds.seconds,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except subprocess.TimeoutExpired:
        raise CheckpointError(
            f"{path}: its runs on generated inputs took more than {bounds.seconds:.0f} s and were "
            "ended; allow more with verify: {seconds: ...} in the spec, or state small sizes of "
            "its free dims under verify: dims:"
        ) from None
    if not done.stdout:
        raise CheckpointError(f"{path}: {_ended(done.returncode, bounds)}")
    ok, result = pickle.loads(done.stdout)  # noqa: S301 - written by our own process
    if ok:
        return result
    kind, text = result
    raise kind(text)


def _ended(code: int, bounds: Bounds) -> str:
    name = signal.Signals(-code).name if code < 0 else f"exit {code}"
    return (
        f"a run of its graph ended the process that tries it ({name}), by a fault of ONNX Runtime "
        f"or for want of memory ({bounds.memory / (1 << 30):.1f} GiB are allowed; more with "
        "verify: {memory_gib: ...} in the spec); export the model anew"
    )


def _serve() -> None:
    """The other side: a call on stdin, its outcome on stdout."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries print
    call, memory, arguments = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - ours
    _limit(memory)
    try:
        module, name = call.split(":")
        outcome: tuple[bool, Any] = True, getattr(importlib.import_module(module), name)(*arguments)
    except BuilderError as error:
        outcome = False, (type(error), str(error))
    except Exception as error:  # onnxruntime and onnx have no base of their own
        text = f"{arguments[0]}: ONNX Runtime can't run it on generated inputs: {said(error)}"
        outcome = False, (CheckpointError, text)
    answer.write(pickle.dumps(outcome))
    answer.flush()
    os._exit(0)  # a library's own end may hang or fault


def _limit(memory: int) -> None:
    """Bound the data of this process, where the system can."""
    try:
        import resource  # noqa: PLC0415 - POSIX only

        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    except (ImportError, ValueError, OSError):
        return

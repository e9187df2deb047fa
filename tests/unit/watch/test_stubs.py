"""Dead children of a process, found by looking at them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.watch.stubs import Stubs

PARENT = """
import subprocess, sys
child = subprocess.Popen(
    ["/backends/triton_python_backend_stub", sys.argv[1], "region"],
    executable=sys.executable, stdin=subprocess.PIPE,
)
print(child.pid, flush=True)
for line in sys.stdin:
    child.wait()
    print("waited", flush=True)
"""
Parent = subprocess.Popen[str]


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Parent]:
    """A process with a child as the Python backend has, for which it does not wait unless told."""
    model = tmp_path / "talk" / "1" / "model.py"
    model.parent.mkdir(parents=True)
    model.write_text("input()")
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def child_of(parent: Parent) -> int:
    assert parent.stdout is not None
    return int(parent.stdout.readline())


def wait_for_state(pid: int, state: str) -> None:
    end = time.monotonic() + 30
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != state:
        assert time.monotonic() < end
        time.sleep(0.01)


def wait_for_command(pid: int) -> None:
    end = time.monotonic() + 30
    while b"stub" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_killed_child_is_named_by_its_model(parent: Parent) -> None:
    child = child_of(parent)
    wait_for_command(child)
    stubs = Stubs(parent.pid)
    assert [stubs.dead() for _ in range(3)] == [[], [], []]
    os.kill(child, signal.SIGKILL)
    wait_for_state(child, "Z")
    assert stubs.dead() == [], "one look may fall between an end and the wait for it"
    assert stubs.dead() == ["talk"]


def test_a_child_that_was_dead_before_the_first_look_has_no_name(parent: Parent) -> None:
    child = child_of(parent)
    os.kill(child, signal.SIGKILL)
    wait_for_state(child, "Z")
    stubs = Stubs(parent.pid)
    stubs.dead()
    assert stubs.dead() == ["a Python model"]


def test_a_child_that_was_waited_for_is_an_unload(parent: Parent) -> None:
    child = child_of(parent)
    wait_for_command(child)
    stubs = Stubs(parent.pid)
    stubs.dead()
    os.kill(child, signal.SIGKILL)
    wait_for_state(child, "Z")
    stubs.dead()
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.write("wait\n")
    parent.stdin.flush()
    assert parent.stdout.readline() == "waited\n"
    assert stubs.dead() == []


def test_a_process_that_is_gone_has_no_stubs() -> None:
    done = subprocess.Popen(["/bin/true"])
    done.wait()
    assert Stubs(done.pid).dead() == []

"""Watched servers that are hurt: no request is left without an answer, and they answer again."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from builder.serve import TritonServer
from builder.watch import keeper
from builder.watch.health import Health
from builder.watch.watcher import WatchSettings
from tests.integration.conftest import Serve, WriteModel
from tests.integration.watched import Talk, Watched, number, served, write_repository

ROOT = Path(__file__).resolve().parents[2]
STREAMS = 16
DEADLY = """
import os

class TritonPythonModel:
    def execute(self, requests):
        os._exit(1)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def write(folder: Path, name: str, model: str | None, config: str) -> Path:
        (folder / name / "1").mkdir(parents=True)
        if model is not None:
            (folder / name / "1" / "model.py").write_text(model)
        (folder / name / "config.pbtxt").write_text(config)
        return folder / name

    return write_repository(tmp_path_factory.mktemp("watched"), write)


@pytest.fixture(scope="module")
def watched(repository: Path) -> Iterator[Watched]:
    with served(repository) as running:
        yield running


def wait_for(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)


def ask(server: Watched, seconds: float) -> float:
    with grpc.InferenceServerClient(server.url) as client:
        answer = client.infer("stuck", [number(seconds)]).as_numpy("Y")
        assert answer is not None
        return float(answer[0])


def hurt_talk(server: Watched) -> list[str | None]:
    """Kill the stub of `talk` under streams; how they end."""
    talks = [Talk(server.url, 400) for _ in range(STREAMS)]
    for talk in talks:
        talk.first()
    server.stub("talk").send_signal(signal.SIGKILL)
    ends = [talk.end() for talk in talks]
    for talk in talks:
        talk.close()
    return ends


def assert_answers(server: Watched) -> None:
    talk = Talk(server.url, 3)
    assert talk.end() is None
    talk.close()
    assert ask(server, 0.25) == 0.25


def test_a_killed_stub_ends_its_streams_and_is_replaced(watched: Watched) -> None:
    before = watched.wait(ready=True)
    assert before["models"]["pipeline"]["state"] == "ok"
    assert set(before["models"]) == {"pipeline", "stuck"}, "steps are asked by their ensemble"
    ends = hurt_talk(watched)
    assert all(end and "UNAVAILABLE" in end for end in ends), ends
    after = watched.wait(ready=True)
    assert after["restarts"] == before["restarts"] + 1
    assert after["last_fault"] == "'talk': its Python stub has died"
    assert_answers(watched)


def test_health_is_false_while_a_model_can_not_answer(watched: Watched) -> None:
    """A request that never ends: nothing has died, and only a canary can tell."""
    before = watched.wait(ready=True)
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(ask, watched, -1)
        down = watched.wait(ready=False)
        assert "'stuck': no answer to its canary" in down["last_fault"]
        with pytest.raises(InferenceServerException, match="UNAVAILABLE"):
            hanging.result(60)
    after = watched.wait(ready=True)
    assert after["restarts"] == before["restarts"] + 1
    assert_answers(watched)


def test_overload_is_no_fault(watched: Watched) -> None:
    """The canary waits longer than its deadline, and others are answered meanwhile."""
    before = watched.wait(ready=True)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda _: ask(watched, 0.5), range(16))) == [0.5] * 16
    after = watched.wait(ready=True)
    assert after["restarts"] == before["restarts"]
    assert after["models"]["stuck"]["state"] == "ok"


def test_a_server_that_dies_is_started_again(watched: Watched) -> None:
    before = watched.wait(ready=True)
    watched.server().kill()
    after = watched.wait(ready=False)
    after = watched.wait(ready=True)
    assert after["restarts"] == before["restarts"] + 1
    assert after["last_fault"] == "tritonserver has ended on its own"
    assert_answers(watched)


def test_builder_health_says_it_by_its_exit_status(watched: Watched) -> None:
    watched.wait(ready=True)
    command = [sys.executable, "-m", "builder", "health", "--url"]
    done = subprocess.run(
        [*command, f"127.0.0.1:{watched.health_port}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "pipeline" in done.stdout
    for port, sentence in ((9, "nothing answers"), (watched.http_port, "not the health of a")):
        wrong = subprocess.run(
            [*command, f"127.0.0.1:{port}"], capture_output=True, text=True, check=False
        )
        assert wrong.returncode == 2, wrong.stdout
        assert sentence in wrong.stderr
        assert len(wrong.stderr.strip().splitlines()) == 1


def test_a_stop_ends_what_hangs(serve_repository: Serve, repository: Path) -> None:
    with serve_repository(repository, grace=3) as server, ThreadPoolExecutor(9) as pool:
        clients = [grpc.InferenceServerClient(server.grpc_url) for _ in range(9)]
        calls = [pool.submit(client.infer, "stuck", [number(-1)]) for client in clients]
        time.sleep(0.5)
        pids = [server.pid, *(p.pid for p in psutil.Process(server.pid).children())]
        server.stop()
        wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids if pid))
        for call in calls:
            with pytest.raises(InferenceServerException, match="UNAVAILABLE"):
                call.result(60)


@pytest.mark.slow
def test_twenty_stops_under_load(repository: Path) -> None:
    """Streams, slow requests and one that hangs; each stop ends in its time (printed)."""
    took = []
    for _ in range(20):
        with served(repository) as server:
            talks = [Talk(server.url, 400) for _ in range(8)]
            with ThreadPoolExecutor(9) as pool:
                calls = [pool.submit(ask, server, value) for value in (0.1, 0.2, 0.3, -1)]
                time.sleep(0.5)
                start = time.monotonic()
                server.stop()
                took.append(time.monotonic() - start)
                assert server.process.returncode == 0
                assert all(talk.end() for talk in talks)
                assert calls[-1].exception(60) is not None
            for talk in talks:
                talk.close()
    print(f"stops with 4 s of grace: {sorted(round(seconds, 1) for seconds in took)}")


def test_a_server_that_can_not_be_kept_alive_is_given_up(
    tmp_path: Path, write_model: WriteModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = (
        'backend: "python"\ninput { name: "X" data_type: TYPE_FP32 dims: 1 }\n'
        'output { name: "Y" data_type: TYPE_FP32 dims: 1 }\n'
    )
    write_model(tmp_path / "repository", "deadly", DEADLY, config)
    monkeypatch.setattr(keeper, "_MOST_RESTARTS", 1)
    said: list[str] = []
    health = Health()
    with TritonServer(tmp_path / "repository") as server:
        port = server.grpc_port
        kept = keeper.Keeper(
            server, server.model_repository, health, said.append, WatchSettings(interval=0.5)
        )
        with pytest.raises(keeper.GaveUpError, match="'deadly': its Python stub has died"):
            kept.keep(threading.Event().wait)
        assert server.grpc_port == port
    assert said == ["'deadly': its Python stub has died; starting tritonserver again"] * 2
    assert health.read()[0] is False


def container(repository: Path) -> Watched:
    """The entry point of the CPU image."""
    return Watched(
        str(ROOT / "docker" / "serve.py"),
        str(repository),
        *("--grpc-port={grpc}", "--http-port={http}", "--metrics-port={metrics}"),
        *("--grpc-address=127.0.0.1", "--http-address=127.0.0.1", "--metrics-address=127.0.0.1"),
        environment={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "WATCH_HEALTH_PORT": "{health}",
            "WATCH_INTERVAL": "1",
            "WATCH_STOP_SECONDS": "4",
        },
    )


def test_the_entry_point_of_an_image_is_watched_too(repository: Path) -> None:
    before = set(Path("/dev/shm").glob("watched-*"))
    server = container(repository)
    try:
        server.wait(ready=True)
        assert all(end for end in hurt_talk(server))
        assert server.wait(ready=True)["restarts"] == 1
        assert_answers(server)
        pids = [child.pid for child in psutil.Process(server.process.pid).children(recursive=True)]
    finally:
        said = server.stop()
    assert server.process.returncode == 0
    assert "watch: 'talk': its Python stub has died; starting tritonserver again" in said
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    assert set(Path("/dev/shm").glob("watched-*")) <= before


def test_clients_can_not_register_shared_memory(serve_repository: Serve, repository: Path) -> None:
    def register(server: TritonServer) -> Any:
        (region, *_) = Path("/dev/shm").glob(f"{server.shm_prefix}*")
        wait_for(lambda: region.stat().st_mode & 0o077 == 0)  # no other user can read it
        server.client.register_system_shared_memory("stolen", f"/{region.name}", 64)

    with serve_repository(repository) as server:
        with pytest.raises(InferenceServerException, match="restricted"):
            register(server)
        with pytest.raises(InferenceServerException, match="restricted"):
            server.client.get_system_shared_memory_status()
    with serve_repository(repository, client_shared_memory=True) as server:
        register(server)

"""`TritonServer` and `builder serve` with a real tritonserver."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from builder.errors import ServerError
from builder.serve import TritonServer, layout, supervisor
from builder.serve.log import load_failures, summarize
from builder.serve.ports import find_free

ECHO = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        read = pb_utils.get_input_tensor_by_name
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("Y", read(request, "X").as_numpy())])
            for request in requests
        ]
"""
BROKEN = """
class TritonPythonModel:
    def initialize(self, args):
        raise ValueError("the weights are gone")
"""
CONFIG = """
backend: "python"
input { name: "X" data_type: TYPE_FP32 dims: -1 }
output { name: "Y" data_type: TYPE_FP32 dims: -1 }
instance_group { count: 1 kind: KIND_CPU }
"""


@pytest.fixture
def echo(tmp_path: Path, write_model: Any) -> Path:
    write_model(tmp_path / "repository", "echo", ECHO, CONFIG)
    return tmp_path / "repository"


def ask(server: TritonServer) -> list[float]:
    tensor = grpc.InferInput("X", [2], "FP32")
    tensor.set_data_from_numpy(np.array([1.0, 2.5], np.float32))
    answer = server.client.infer("echo", [tensor]).as_numpy("Y")
    assert answer is not None
    return list(answer.tolist())


def regions(prefix: str) -> list[Path]:
    return list(Path("/dev/shm").glob(f"{prefix}*"))


def wait_for(done: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def test_servers_run_side_by_side_and_leave_nothing(serve_repository: Any, echo: Path) -> None:
    with serve_repository(echo) as first, serve_repository(echo) as second:
        assert ask(first) == ask(second) == [1.0, 2.5]
        assert len({first.grpc_port, first.http_port, first.metrics_port, second.grpc_port}) == 4
        assert first.models() == [{"name": "echo", "version": "1", "state": "READY", "reason": ""}]
        assert regions(first.shm_prefix)
        pids = [first.pid, second.pid]
        connections = psutil.Process(first.pid).net_connections(kind="tcp")
        addresses = [c.laddr for c in connections if c.status == psutil.CONN_LISTEN]
        listening = {(ip.removeprefix("::ffff:"), port) for ip, port in addresses}
        ports = {first.grpc_port, first.http_port, first.metrics_port}
        assert listening == {("127.0.0.1", port) for port in ports}
        assert all(psutil.pid_exists(pid) for pid in pids if pid)
        folder = first._folder
    assert not any(psutil.pid_exists(pid) for pid in pids if pid)
    assert regions(first.shm_prefix) == regions(second.shm_prefix) == []
    assert folder is not None
    assert not folder.exists()
    assert not first.running
    assert "successfully loaded 'echo'" in first.log_text(), "the log outlives the server"
    assert list(echo.rglob("__pycache__")) == [], "the repository is as it was"


def test_explicit_mode_loads_and_unloads(
    serve_repository: Any, echo: Path, write_model: Any, tmp_path: Path
) -> None:
    write_model(echo, "broken", BROKEN, CONFIG)
    log_file = tmp_path / "kept.log"
    with serve_repository(echo, explicit=True, log_file=log_file) as server:
        assert {model["state"] for model in server.models()} == {""}
        server.client.load_model("echo")
        assert ask(server) == [1.0, 2.5]
        mark = server.log_end
        with pytest.raises(InferenceServerException, match="the weights are gone"):
            server.client.load_model("broken")
        assert "the weights are gone" in server.log_text(since=mark)
        assert "'echo'" not in server.log_text(since=mark)
        server.client.unload_model("echo")
        wait_for(lambda: not server.client.is_model_ready("echo"))
    assert "the weights are gone" in log_file.read_text()


def test_a_model_that_does_not_load_is_named(
    serve_repository: Any, echo: Path, write_model: Any
) -> None:
    write_model(echo, "broken", BROKEN, CONFIG)
    server = serve_repository(echo)
    message = r"did not load .*: model 'broken': .*the weights are gone"
    with pytest.raises(ServerError, match=message) as caught:
        server.start()
    assert "\n" not in str(caught.value)
    assert "echo" not in str(caught.value)
    assert not server.running
    assert regions(server.shm_prefix) == []


def test_a_server_that_dies_leaves_nothing(serve_repository: Any, echo: Path) -> None:
    with serve_repository(echo) as server:
        stubs = [child.pid for child in psutil.Process(server.pid).children(recursive=True)]
        assert stubs
        os.kill(server.pid, signal.SIGKILL)
        wait_for(lambda: not server.running)
        wait_for(lambda: not any(psutil.pid_exists(pid) for pid in stubs))
        assert regions(server.shm_prefix) == []


def test_a_server_ends_with_a_killed_starter(echo: Path) -> None:
    code = (
        "import os, signal\n"
        "from builder.serve import TritonServer\n"
        f"server = TritonServer({str(echo)!r})\n"
        "server.start()\n"
        "print(server.pid, server.shm_prefix, server._folder, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid, prefix, folder = done.stdout.split()
    wait_for(lambda: not psutil.pid_exists(int(pid)))
    wait_for(lambda: regions(prefix) == [] and not Path(folder).exists())


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_a_clear_error(echo: Path) -> None:
    with taken_port() as port:
        with pytest.raises(ServerError, match=f"port {port} is taken.*another --http-port"):
            TritonServer(echo, http_port=port).start()
        assert port not in find_free(5)


def test_a_port_that_is_taken_meanwhile_is_no_readiness(serve_repository: Any, echo: Path) -> None:
    """gRPC answers before Triton finds that the metrics' port is taken."""
    with taken_port() as port:
        server = serve_repository(echo, explicit=True, args=[f"--metrics-port={port}"])
        with pytest.raises(ServerError, match=f"failed to start Metrics .*{port}' already in use"):
            server.start()


def test_a_missing_repository_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="nowhere is not a folder"):
        TritonServer(tmp_path / "nowhere").start()


def test_a_missing_libpython_says_what_to_install(
    echo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "_SYSTEM_LIBRARIES", ())
    monkeypatch.setattr(layout.sysconfig, "get_config_var", lambda name: None)
    monkeypatch.setattr(layout.sys, "base_prefix", "/nowhere")
    monkeypatch.setattr(layout.sys, "prefix", "/nowhere")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    before = set(Path("/tmp").glob("builder-serve-*"))
    with pytest.raises(ServerError, match=r"libpython3\.\d+\.so\.1\.0 is missing.*apt-get install"):
        TritonServer(echo).start()
    assert set(Path("/tmp").glob("builder-serve-*")) <= before


def test_the_wheel_is_found_without_importing_it() -> None:
    code = (
        "import sys\nfrom builder.serve.layout import find_installation\n"
        "assert find_installation().binary.exists()\nassert 'pytriton' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_only_regions_of_the_prefix_are_removed(tmp_path: Path) -> None:
    ours, other = (Path(f"/dev/shm/builder-test-{os.getpid()}-{name}") for name in ("a-1", "b-1"))
    try:
        ours.touch()
        other.touch()
        supervisor.remove_shared_memory(f"builder-test-{os.getpid()}-a-")
        assert (ours.exists(), other.exists()) == (False, True)
    finally:
        other.unlink()


def test_a_log_names_models_before_other_errors() -> None:
    failed = "E1124 07:51:51.5 5453 model_lifecycle.cc:642] \"failed to load 'm' version 1: {}\""
    noise = 'E1124 07:51:51.5 5453 server.cc:241] "CudaDriverHelper has not been initialized."'
    other = 'E1124 07:51:51.5 5453 main.cc:4] "something else."'
    log = "\n".join((noise, failed.format(r"Internal: no\n\nAt: x"), other))
    assert load_failures(log) == {"m": "Internal: no At: x"}
    assert summarize(log) == "model 'm': Internal: no At: x"
    assert summarize("\n".join((noise, other))) == "something else"
    assert summarize(noise) == "its log names no error"


def builder(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "builder", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_builder_serve_runs_until_it_is_told_to_stop(echo: Path, number: signal.Signals) -> None:
    grpc_port, http_port, metrics_port = map(str, find_free(3))
    process = builder(
        *("serve", str(echo), "--grpc-port", grpc_port),
        *("--http-port", http_port, "--metrics-port", metrics_port, "--health-port", "0"),
    )
    assert process.stdout is not None
    shown = ""
    for line in process.stdout:
        shown += line
        if "Ctrl-C" in line:
            break
    assert "echo" in shown, process.stderr and process.stderr.read()
    assert "READY" in shown
    for url in (f"127.0.0.1:{grpc_port}", f"http://127.0.0.1:{http_port}", f":{metrics_port}/metr"):
        assert url in shown
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 3, "supervisor, server, stub"
    with grpc.InferenceServerClient(f"127.0.0.1:{grpc_port}") as client:
        assert client.is_server_ready()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "stopped" in out
    assert not any(child.is_running() for child in children)
    assert regions(f"builder-{process.pid}-") == []


def test_builder_serve_on_a_broken_repository_exits_2(echo: Path, write_model: Any) -> None:
    write_model(echo, "broken", BROKEN, CONFIG)
    ports = find_free(3)
    process = builder(
        *("serve", str(echo), "--grpc-port", str(ports[0])),
        *("--http-port", str(ports[1]), "--metrics-port", str(ports[2]), "--health-port", "0"),
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert len(err.strip().splitlines()) == 1
    assert "model 'broken'" in err

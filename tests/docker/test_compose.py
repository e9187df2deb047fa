"""docker-compose.yml and the CPU image, run by a real Docker engine (`make test-docker`).

The tests build on each other, in the order of this file: one server lives through them all.
"""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest
import tritonclient.grpc as grpc
from docker_engine import (
    BASE,
    CannotRunError,
    Engine,
    engine,
    has_image,
    make_base_image,
    network_links,
)
from ruamel.yaml import YAML

from builder.arr_coc.reference import Reference
from builder.arr_coc.source import load_checkpoint
from builder.serve.ports import find_free
from builder.spec.load import load_spec
from clients import Answer, GenerationOptions, Question, ServerUnavailableError, answer

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "out" / "docker"
PROJECT = f"builder-test-{os.getpid()}"
HOST = "127.77.0.1"  # loopback, and nobody else's ports
URL = f"{HOST}:8001"
# Exit status 0, or 1 where the watch says that a model can't answer.
HEALTH = "import urllib.request as r; r.urlopen('http://127.0.0.1:8003/v2/health/ready', timeout=2)"
KILL = """
import os, pathlib, signal
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    command = (folder / "cmdline").read_bytes().decode().split("\\0")
    if command[0].endswith("triton_python_backend_stub") and "/language/" in " ".join(command):
        os.kill(int(folder.name), signal.SIGKILL)
        print(folder.name)
"""


@dataclass
class Composed:
    """The profile cpu, up."""

    engine: Engine
    repositories: Path
    seconds: float
    """From `up` until healthy."""

    def compose(self, *arguments: str) -> str:
        return self.engine.docker(
            *("compose", "--project-directory", str(ROOT), "--project-name", PROJECT),
            *("--profile", "cpu", *arguments),
        )

    @functools.cached_property
    def container(self) -> str:
        return self.compose("ps", "--all", "--quiet", "server-cpu").strip()

    def healthy(self) -> bool:
        command = ["docker", "exec", self.container, "python3", "-c", HEALTH]
        done = subprocess.run(
            command, env=self.engine.environment, capture_output=True, check=False
        )
        return not done.returncode


def plugin_folder() -> Path:
    """Docker's client folder: the user's own where it has Compose 2, else that of the Makefile."""
    own = Path(os.environ.get("DOCKER_CONFIG", Path.home() / ".docker"))
    if not shutil.which("docker"):
        return own
    for folder in (own, TOOLS):
        done = subprocess.run(
            ["docker", "compose", "version", "--short"],
            env={**os.environ, "DOCKER_CONFIG": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.returncode and not done.stdout.strip().removeprefix("v").startswith("1."):
            return folder
    pytest.skip("no Compose 2: scripts/install_docker.sh out/docker")


@pytest.fixture(scope="module")
def docker() -> Iterator[Engine]:
    """An engine with our base image; nothing of one of our own is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="builder-docker-"))
    config = plugin_folder()
    links = network_links()
    try:
        with engine(folder, config) as found:
            if found.own:
                make_base_image(found, folder)
            elif not has_image(found, BASE):
                pulled = subprocess.run(
                    ["docker", "pull", BASE], env=found.environment, check=False
                )
                if pulled.returncode:
                    pytest.skip(f"{BASE} can't be pulled")
            yield found
    except CannotRunError as reason:
        pytest.skip(str(reason))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if found.own:
        assert f"{folder}/" not in Path("/proc/mounts").read_text()
        assert not folder.exists()
        assert network_links() == links


@pytest.fixture(scope="module")
def composed(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    repositories = tmp_path_factory.mktemp("repositories")
    # The container's user reads it; pytest's folders are for their own user only.
    for folder in (repositories, *repositories.parents[:2]):
        folder.chmod(0o755)
    build(repositories, "specs/arr_coc.yaml")
    docker.environment.update(
        BIND_ADDRESS=HOST,
        MODEL_REPOSITORY=str(repositories),
        SERVED_FOLDER="model_repository",
        MODEL_CONTROL="poll",
    )
    found = Composed(docker, repositories, 0.0)
    try:
        found.compose("--profile", "loadtest", "build")
        start = time.monotonic()
        found.compose("up", "--wait")
        found.seconds = time.monotonic() - start
        yield found
    finally:
        found.compose("down", "--volumes", "--timeout", "5")
        label = f"label=com.docker.compose.project={PROJECT}"
        assert not docker.docker("ps", "--all", "--quiet", "--filter", label).strip()


def build(repositories: Path, spec: str) -> None:
    command = ["-m", "builder", "build", spec, "--output", str(repositories / "model_repository")]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)


def question(tokens: int) -> Question:
    picture = (files("skimage") / "data" / "chelsea.png").read_bytes()
    return Question(picture, "What is in the picture?", GenerationOptions(max_tokens=tokens))


def ask(tokens: int = 24) -> Answer:
    return answer(URL, question(tokens), timeout=120)


@pytest.fixture(scope="module")
def wanted() -> list[int]:
    """The answer of the plain torch reference, in token ids."""
    spec = load_spec(ROOT / "specs" / "arr_coc.yaml")
    reference = Reference(spec, load_checkpoint(spec.checkpoint, ROOT / "specs", spec.seed))
    asked = question(24)
    return reference.answer(asked.image, asked.prompt, 24).token_ids


@pytest.fixture(scope="module")
def prometheus(composed: Composed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's own, with our configuration; its URL."""
    if not shutil.which("prometheus"):
        pytest.skip("no prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    text = (ROOT / "docker" / "prometheus.yml").read_text()
    assert text.count("triton:8002") == 1
    (folder / "prometheus.yml").write_text(text.replace("triton:8002", f"{HOST}:8002"))
    (port,) = find_free(1)
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def wait_for(condition: Callable[[], bool], seconds: float) -> float:
    """Seconds until it holds."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it never held"
        time.sleep(0.2)
    return time.monotonic() - start


def test_every_profile_is_accepted(docker: Engine) -> None:
    docker.docker("compose", "--project-directory", str(ROOT), "--profile", "*", "config", "-q")


def test_it_is_up_and_healthy(composed: Composed) -> None:
    print(f"\nhealthy after {composed.seconds:.1f} s")
    state = composed.engine.inspect(composed.container)["State"]
    assert state["Health"]["Status"] == "healthy"
    assert composed.healthy()


def test_the_container_is_as_hardened_as_the_file_says(composed: Composed) -> None:
    found = composed.engine.inspect(composed.container)
    host = found["HostConfig"]
    assert found["Config"]["User"] == "10001:10001"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] == 8 << 30
    assert host["PidsLimit"] == 4096
    assert host["ShmSize"] == 1 << 30
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "5"}
    (mount,) = (m for m in found["Mounts"] if m["Type"] == "bind")
    assert (mount["Destination"], mount["RW"]) == ("/models", False)
    # What the kernel says of the processes themselves, and of writing.
    code = (
        "import os, pathlib; s = pathlib.Path('/proc/self/status').read_text();"
        "print(os.getuid(), [l.split()[1] for l in s.splitlines() if l[:7] in"
        " ('CapEff:', 'CapBnd:', 'NoNewPr')]);"
        "[print(f, os.access(f, os.W_OK)) for f in ('/', '/opt', '/models', '/tmp')]"
    )
    said = composed.engine.docker("exec", composed.container, "python3", "-c", code)
    none = "0" * 16
    assert said.splitlines() == [
        f"10001 ['{none}', '{none}', '1']",
        *("/ False", "/opt False", "/models False", "/tmp True"),
    ]


def test_it_answers_as_the_reference(composed: Composed, wanted: list[int]) -> None:
    assert list(ask().token_ids) == wanted


def test_the_load_test_runs(composed: Composed, prometheus: str) -> None:
    services = YAML(typ="safe").load(ROOT / "docker-compose.yml")["services"]
    command = [
        "--concurrency-range=2:2" if argument.startswith("--concurrency-range") else argument
        for argument in services["loadtest"]["command"]
    ]
    said = composed.compose("--profile", "loadtest", "run", "--rm", "loadtest", *command)
    (rate,) = re.findall(r"^ *Throughput: ([\d.]+) infer/sec", said, re.MULTILINE)
    print(f"\n{rate} infer/s at concurrency 2")
    assert float(rate) > 0


def dashboard() -> list[str]:
    text = (ROOT / "docker" / "grafana" / "dashboards" / "triton.json").read_text()
    return [target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"]]


def test_the_dashboard_s_queries_are_answered(prometheus: str) -> None:
    """By a real Prometheus that scraped the container; those of a GPU are none here."""
    queries = [query for query in dashboard() if "nv_gpu_" not in query]
    assert len(queries) > 15

    def series(query: str) -> int:
        filled = query.replace("$model", ".*").replace("$__rate_interval", "1m")
        url = f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': filled})}"
        with urllib.request.urlopen(url, timeout=10) as reply:
            return len(json.load(reply)["data"]["result"])

    empty = set(queries)

    def all_answered() -> bool:
        empty.difference_update([query for query in empty if series(query)])
        return not empty

    try:
        wait_for(all_answered, 40)
    finally:
        assert not empty
    print(f"\n{len(queries)} queries answered")


def test_prometheus_accepts_its_configuration() -> None:
    if not shutil.which("promtool"):
        pytest.skip("no promtool")
    command = ["promtool", "check", "config", str(ROOT / "docker" / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_new_member_is_taken_while_it_runs(composed: Composed) -> None:
    """The repository is exchanged as a whole folder; the mount is of the folder above."""
    client = grpc.InferenceServerClient(URL)
    assert not client.is_model_ready("labels")
    build(composed.repositories, "examples/python/labels.yaml")
    seconds = wait_for(lambda: client.is_model_ready("labels"), 60)
    client.close()
    print(f"\nready {seconds:.1f} s after it was published")


def test_a_killed_stub_is_healed(composed: Composed, wanted: list[int]) -> None:
    before = composed.engine.inspect(composed.container)["State"]["StartedAt"]
    killed = composed.engine.docker("exec", composed.container, "python3", "-c", KILL)
    assert len(killed.split()) == 1
    ill = wait_for(lambda: not composed.healthy(), 20)
    healed = wait_for(composed.healthy, 120)
    print(f"\nhealth false after {ill:.1f} s, true again {healed:.1f} s later")
    assert list(ask().token_ids) == wanted
    # By the watch inside it, not by a restart of the container.
    assert composed.engine.inspect(composed.container)["State"]["StartedAt"] == before


def test_a_stop_ends_requests_in_the_time_given(composed: Composed) -> None:
    (expected,) = {tuple(ask(100).token_ids)}
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(ask, 100) for _ in range(4)]
        time.sleep(0.3)
        start = time.monotonic()
        composed.compose("stop")
        seconds = time.monotonic() - start
        for future in running:
            # Triton takes no further step of an ensemble once it stops: whole, or refused.
            try:
                assert tuple(future.result().token_ids) == expected
            except ServerUnavailableError as error:
                assert "stopping" in str(error)
    state = composed.engine.inspect(composed.container)["State"]
    print(f"\nstopped after {seconds:.1f} s")
    assert seconds < 40
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)

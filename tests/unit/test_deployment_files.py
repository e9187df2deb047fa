"""The container files: what can be checked without a Docker engine."""

import ast
import base64
import fnmatch
import io
import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import pytest
from packaging.requirements import Requirement
from PIL import Image
from ruamel.yaml import YAML

from builder.arr_coc.recipe import ArrCocRecipe
from builder.releases import release_of, table
from builder.spec.load import load_spec

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
STAGES = sorted((ROOT / "builder" / "runtime").rglob("*.py"))
WATCH = sorted((ROOT / "builder" / "watch").rglob("*.py"))
SERVERS = ("server-cpu", "server-gpu")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file, its anchors and merge keys resolved."""
    loaded = YAML(typ="safe").load(ROOT / "docker-compose.yml")
    assert isinstance(loaded, dict)
    return loaded


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


def pins(name: str) -> dict[str, str]:
    """Package -> exact version of a requirements file in docker/."""
    lines = (DOCKER / name).read_text().splitlines()
    wanted = [line.partition("#")[0].strip() for line in lines]
    found = dict(
        re.fullmatch(r"([\w-]+)(?:\[.*\])?==([\w.]+)", line).groups() for line in wanted if line
    )  # type: ignore[union-attr]
    assert found
    return found


# --- compose


def test_every_profile_is_there(services: dict[str, dict[str, Any]]) -> None:
    profiles = {profile for service in services.values() for profile in service["profiles"]}
    assert profiles == {"cpu", "gpu", "builder", "metrics", "loadtest"}


def test_every_service_is_hardened(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service), name
        user = re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", service["user"])
        assert int(user.split(":")[0]) > 0, name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name


def test_every_image_has_a_version(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        _, _, tag = service["image"].rpartition("/")[2].partition(":")
        assert any(character.isdigit() for character in tag), name


def test_ports_are_published_on_loopback_unless_asked(
    services: dict[str, dict[str, Any]],
) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert len(published) == 8
    for port in published:
        assert re.fullmatch(r"\$\{BIND_ADDRESS:-127\.0\.0\.1\}:(\d+):\1", port), port


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_has_what_triton_needs(services: dict[str, dict[str, Any]], name: str) -> None:
    server = services[name]
    assert server["shm_size"]  # tensors of the Python backend
    assert any("/tmp:" in mount and "exec" in mount for mount in server["tmpfs"])  # its stub
    # The watch's, not Triton's own, which stays true while a model can't answer.
    assert ":8003/v2/health/ready" in server["healthcheck"]["test"][-1]
    (models,) = server["volumes"]
    assert models["target"] == "/models"
    assert models["read_only"] is True
    assert models["bind"]["create_host_path"] is False


def test_only_the_gpu_server_reserves_a_gpu(services: dict[str, dict[str, Any]]) -> None:
    (device,) = services["server-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]
    assert [name for name, service in services.items() if "deploy" in service] == ["server-gpu"]


def test_named_volumes_and_mounted_files_exist(
    compose: dict[str, Any], services: dict[str, dict[str, Any]]
) -> None:
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), (name, source)
            elif not source.startswith(("$", ".")):
                assert source in compose["volumes"], (name, source)


def test_prometheus_scrapes_the_servers_by_their_common_name(
    services: dict[str, dict[str, Any]],
) -> None:
    (job,) = YAML(typ="safe").load(DOCKER / "prometheus.yml")["scrape_configs"]
    host, port = job["static_configs"][0]["targets"][0].split(":")
    for name in SERVERS:
        assert host in services[name]["networks"]["default"]["aliases"]
        assert services[name]["ports"][-1].endswith(f":{port}")


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_serves_a_folder_below_its_mount(
    services: dict[str, dict[str, Any]], name: str
) -> None:
    """So that one that is exchanged as a whole is seen; and exports what the dashboard shows."""
    folder, *options = services[name]["command"]
    assert folder.removeprefix("--model-repository=") == "/models/${SERVED_FOLDER:-}"
    assert options == [
        "--model-control-mode=${MODEL_CONTROL:-none}",
        "--metrics-config=summary_latencies=true",
    ]


def test_the_dashboard_asks_for_metrics_of_a_gpu_that_exist() -> None:
    """They are exported with a GPU only: by Triton's list of metrics and its library.

    The library has the first 16 letters of a name in one piece. Of the others a real server is
    asked (tests/integration/test_dashboard.py).
    """
    text = (DOCKER / "grafana" / "dashboards" / "triton.json").read_text()
    names = set(re.findall(r"nv_gpu_\w+", text))
    # github.com/triton-inference-server/server, docs/user_guide/metrics.md
    memory = {"nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes"}
    assert names == {"nv_gpu_utilization", "nv_gpu_power_usage", *memory}
    site = Path(str(metadata.distribution("nvidia-pytriton").locate_file("")))
    (library,) = site.glob("nvidia_pytriton.libs/libtritonserver-*.so")
    exported = library.read_bytes()
    assert [name for name in sorted(names) if name[:16].encode() not in exported] == []


def test_grafana_finds_its_source_and_its_dashboard(services: dict[str, dict[str, Any]]) -> None:
    folder = DOCKER / "grafana" / "provisioning"
    yaml = YAML(typ="safe")
    (source,) = yaml.load(folder / "datasources" / "prometheus.yml")["datasources"]
    (provider,) = yaml.load(folder / "dashboards" / "triton.yml")["providers"]
    dashboard = json.loads((DOCKER / "grafana" / "dashboards" / "triton.json").read_text())
    for panel in dashboard["panels"]:
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    assert mounts["./docker/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./docker/grafana/provisioning"] == "/etc/grafana/provisioning"
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/triton.json"


@pytest.mark.parametrize(
    ("plugin", "standalone", "said"),
    [
        ("", "1.29.2", "docker-compose is 1.29.2; install"),
        ("2.17.3", "", "docker compose is 2.17.3; install"),
        ("", "", "there is none; install"),
        ("v2.26.1", "", ""),
        ("2.100.0", "1.29.2", ""),
    ],
)
def test_an_old_compose_is_refused_with_one_sentence(
    tmp_path: Path, plugin: str, standalone: str, said: str
) -> None:
    for name, version in (("docker", plugin), ("docker-compose", standalone)):
        script = f'[ -n "{version}" ] || exit 1\ncase "$*" in\n*version*) echo "{version}";;\n'
        script += '*) echo "ran $*";;\nesac\n'
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [ROOT / "scripts" / "compose.sh", "--profile", "cpu", "up"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if said:
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert said in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("ran compose --project-directory ")
        assert done.stdout.endswith(" --profile cpu up\n")


def why_no_compose() -> str:
    """Why our file can't be tried here; empty: it can."""
    if not shutil.which("docker-compose"):
        return "needs docker-compose"
    said = subprocess.run(
        ["docker-compose", "version", "--short"], capture_output=True, text=True, check=False
    ).stdout.strip()
    if said.removeprefix("v").startswith("1."):
        return f"docker-compose {said} refuses our file, which is one of compose 2"
    return ""


@pytest.mark.skipif(bool(why_no_compose()), reason=why_no_compose())
def test_docker_compose_accepts_every_profile() -> None:
    command = ["docker-compose", "--profile", "*", "config", "--quiet"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


# --- Dockerfiles


def instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word, rest


def test_compose_builds_every_dockerfile(services: dict[str, dict[str, Any]]) -> None:
    built = {service["build"]["dockerfile"] for service in services.values() if "build" in service}
    assert built == {str(path.relative_to(ROOT)) for path in DOCKERFILES}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_starts_from_a_version_and_not_as_root(dockerfile: Path) -> None:
    found = list(instructions(dockerfile))
    for word, rest in found:
        if word == "FROM":
            assert re.search(r":\S*\d", rest), rest
    users = [rest for word, rest in found if word == "USER"]
    assert users
    assert all(int(user.split(":")[0]) > 0 for user in users)
    last = max(index for index, (word, _) in enumerate(found) if word == "USER")
    assert not any(word == "RUN" for word, _ in found[last:])


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a top-level path out of the build context."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#") and fnmatch.fnmatch(path, pattern.lstrip("!")):
            verdict = not pattern.startswith("!")
    return verdict


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_copied_is_in_the_build_context(dockerfile: Path) -> None:
    copied = [
        source
        for word, rest in instructions(dockerfile)
        if word == "COPY" and "--from=" not in rest
        for source in shlex.split(rest)[:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert not ignored(source.partition("/")[0]), source


def test_nothing_private_or_large_is_sent_to_the_docker_engine() -> None:
    for path in (".git", ".venv", ".env", "model_repository", "examples", "shared"):
        assert ignored(path), path


# --- versions


def test_the_cpu_image_runs_the_versions_that_are_tested_here() -> None:
    for package, version in pins("requirements-serve.txt").items():
        assert metadata.version(package) == version, package
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (triton,) = (
        requirement
        for requirement in project["optional-dependencies"]["local"]
        if requirement.startswith("nvidia-pytriton")
    )
    assert f"--no-deps {triton}" in (DOCKER / "cpu.Dockerfile").read_text()


def test_the_builder_image_installs_the_project_s_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (torch,) = (wanted for wanted in project["dependencies"] if wanted.startswith("torch=="))
    assert f" {torch}\n" in (DOCKER / "builder.Dockerfile").read_text()


def test_images_carry_the_project_s_version(services: dict[str, dict[str, Any]]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for service in services.values():
        if "build" in service:
            assert service["image"].endswith(f":{version}")


# --- what runs inside the images


def imported(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Absolute imports: module, names taken from it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module), tuple(alias.name for alias in node.names)


# Engines that a spec chooses; who does installs their packages (a repository's requirements.txt).
ENGINES = {
    "openvino_model": {"openvino"},
    "torch_model": {"torch", "transformers", "safetensors"},
}


@pytest.mark.parametrize("requirements", ["requirements-serve.txt", "requirements-gpu.txt"])
def test_an_image_has_every_package_that_the_stages_import(requirements: str) -> None:
    assert STAGES
    provided = {"PIL" if name == "pillow" else name for name in pins(requirements)}
    if "onnxruntime-gpu" in provided:
        provided.add("onnxruntime")
    provided |= {"triton_python_backend_utils", "c_python_backend_utils"}
    for path in STAGES:
        # Triton imports a backend's files from their own folder.
        siblings = {sibling.stem for sibling in path.parent.glob("*.py")}
        siblings |= ENGINES.get(path.parent.name, set())
        for module, _ in imported(path):
            package = module.partition(".")[0]
            assert package in provided | siblings | sys.stdlib_module_names, (path, module)


@pytest.mark.parametrize(
    ("target", "requirements"),
    [("cpu", "requirements-serve.txt"), ("gpu", "requirements-gpu.txt")],
)
def test_an_image_satisfies_the_requirements_of_a_repository(
    target: Literal["cpu", "gpu"], requirements: str
) -> None:
    spec = load_spec(ROOT / "specs" / "arr_coc.yaml").model_copy(update={"target": target})
    installed = pins(requirements)
    for line in ArrCocRecipe(spec, ROOT / "specs").requirements():
        wanted = Requirement(line)
        assert wanted.specifier.contains(installed[wanted.name]), line


def test_the_images_are_those_of_the_default_release(services: dict[str, dict[str, Any]]) -> None:
    release = release_of(table().default)
    image = release.image.replace(release.name, "${TRITON_RELEASE}")
    dockerfile = (DOCKER / "gpu.Dockerfile").read_text()
    assert f"ARG TRITON_RELEASE={release.name}\nFROM {image}\n" in dockerfile
    setting = f"${{TRITON_RELEASE:-{release.name}}}"
    assert services["server-gpu"]["build"]["args"] == {"TRITON_RELEASE": setting}
    requirements = (DOCKER / "requirements-gpu.txt").read_text()
    assert f"{release.name}-py3, which has Python {release.python} and CUDA" in requirements
    assert f"CUDA {release.cuda}." in requirements
    assert pins("requirements-gpu.txt")["onnxruntime-gpu"] == release.onnxruntime


# Added to the standard library after Python 3.10.
NEWER: dict[str, set[str]] = {
    "tomllib": set(),
    "asyncio": {"Runner", "TaskGroup", "timeout"},
    "collections.abc": {"Buffer"},
    "contextlib": {"chdir"},
    "datetime": {"UTC"},
    "enum": {"StrEnum", "ReprEnum", "verify"},
    "hashlib": {"file_digest"},
    "itertools": {"batched"},
    "operator": {"call"},
    "typing": {
        *("LiteralString", "Never", "NotRequired", "Required", "Self", "TypeVarTuple", "Unpack"),
        *("assert_never", "assert_type", "dataclass_transform", "override", "reveal_type"),
    },
}


@pytest.mark.parametrize("requirements", ["requirements-serve.txt", "requirements-gpu.txt"])
def test_an_image_has_every_package_that_the_watch_imports(requirements: str) -> None:
    assert WATCH
    provided = {*pins(requirements), "grpc", "builder"}
    assert "tritonclient" in provided
    for path in WATCH:
        for module, _ in imported(path):
            package = module.partition(".")[0]
            assert package in provided | sys.stdlib_module_names, (path, module)
            assert package != "builder" or module.startswith("builder.watch"), (path, module)


def test_the_watch_runs_where_nothing_else_of_the_builder_is(tmp_path: Path) -> None:
    """As the GPU image has it: the entry point, and beside it the package."""
    shutil.copy(DOCKER / "watch.py", tmp_path)
    (tmp_path / "builder").mkdir()
    shutil.copy(ROOT / "builder" / "__init__.py", tmp_path / "builder")
    shutil.copytree(ROOT / "builder" / "watch", tmp_path / "builder" / "watch")
    command = [sys.executable, str(tmp_path / "watch.py"), "/bin/false", "--model-repository=/none"]
    ports = {"WATCH_HEALTH_PORT": "0"}
    for environment, status, said in (
        ({}, 1, "watch: tritonserver ended with status 1; see its log"),
        ({"WATCH_DEADLINE": "soon"}, 2, "WATCH_DEADLINE is 'soon'; it must be a number"),
    ):
        done = subprocess.run(
            command,
            env={**os.environ, **ports, **environment, "PYTHONPATH": ""},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, said in done.stderr) == (status, True), done.stderr


@pytest.mark.parametrize("path", [*STAGES, *WATCH], ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_stage_runs_on_the_python_of_the_gpu_image(path: Path) -> None:
    """The images of the table's oldest releases, still built for, have Python 3.10."""
    ast.parse(path.read_text(), feature_version=(3, 10))
    for module, names in imported(path):
        if module in NEWER:
            assert NEWER[module], module
            assert not NEWER[module] & set(names), (module, names)


def test_serving_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules |= dict.fromkeys(['torch', 'transformers', 'onnx', 'typer']);"
        "import builder.serve.layout"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def run_entry_point(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, DOCKER / "serve.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_entry_point_says_what_is_missing(tmp_path: Path) -> None:
    assert run_entry_point().returncode == 2
    missing = run_entry_point(str(tmp_path / "models"))
    assert missing.returncode == 2
    assert str(tmp_path / "models") in missing.stderr
    assert missing.stderr.count("\n") == 1


def test_the_load_test_asks_real_questions(services: dict[str, dict[str, Any]]) -> None:
    questions = json.loads((DOCKER / "loadtest.json").read_text())["data"]
    assert questions
    for question in questions:
        # perf_analyzer takes b64 as the tensor's bytes: a length, then the element.
        raw = base64.b64decode(question["IMAGE"]["b64"])
        assert struct.unpack("<I", raw[:4]) == (len(raw) - 4,)
        Image.open(io.BytesIO(raw[4:])).load()
        assert isinstance(question["PROMPT"][0], str)
    command = services["loadtest"]["command"]
    assert "triton:8001" in command
    assert "arr_coc" in command


# --- continuous integration


def test_the_ci_script_runs_the_targets_and_is_executable() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    text = script.read_text()
    assert "set -euo pipefail" in text
    assert re.findall(r"^make (\w+)$", text, re.MULTILINE) == ["install", "lint", "test"]


def test_pre_commit_hooks_need_no_network() -> None:
    config = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")
    for repository in config["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            assert hook["language"] == "system"

"""A Docker engine for the tests: the one that is reachable, or one of their own."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASE = "python:3.11-slim-bookworm"
_PACKAGES = "ca-certificates,python3,python3-pip,python3-venv,libpython3.11"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


class CannotRunError(Exception):
    """No engine can run here; why."""


@dataclass(frozen=True)
class Engine:
    """An engine that answers.

    Attributes:
        environment: Variables that `docker` is run with.
        own: Whether it was started by these tests.
    """

    environment: dict[str, str]
    own: bool

    def docker(self, *arguments: str, seconds: float = 570.0, **options: Any) -> str:
        """What `docker` prints.

        Raises:
            AssertionError: It failed; with what it said.
        """
        done = subprocess.run(
            ["docker", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            **options,
        )
        assert done.returncode == 0, (arguments, done.stdout[-3000:], done.stderr[-3000:])
        return done.stdout

    def inspect(self, container: str) -> dict[str, Any]:
        (found,) = json.loads(self.docker("inspect", container))
        assert isinstance(found, dict)
        return found


def _answers(environment: dict[str, str]) -> bool:
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    return not subprocess.run(command, env=environment, capture_output=True, check=False).returncode


def _run(*command: str, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stderr[-2000:])
    return done.stdout


def network_links() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


def _unmount(folder: Path) -> None:
    """What an interrupted debootstrap (/proc, /sys) or daemon has left mounted below it."""
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        if line.split()[1].startswith(f"{folder}/"):
            _run("umount", line.split()[1])


def _restore(rules: str) -> None:
    """The firewall as it was; `iptables-restore` leaves tables alone that it isn't told of."""
    for table in ("filter", "nat"):
        if f"*{table}\n" not in rules:
            for option in ("--flush", "--delete-chain"):
                _run("iptables", "--table", table, option)
            if table == "filter":
                _run("iptables", "--policy", "FORWARD", "ACCEPT")
    _run("iptables-restore", stdin=rules)


@contextlib.contextmanager
def engine(folder: Path, config: Path) -> Iterator[Engine]:
    """The engine that is reachable; else one of our own, ended and cleared away afterwards.

    Args:
        folder: An empty folder for its data; a short path, which a socket's must be.
        config: Docker's client folder, with the plugin compose.

    Raises:
        CannotRunError: There is none, and none can be started.
    """
    os.environ["PATH"] += os.pathsep + os.pathsep.join(("/usr/sbin", "/sbin"))
    environment = {**os.environ, "DOCKER_CONFIG": str(config), "DOCKER_BUILDKIT": "0"}
    if not shutil.which("docker"):
        raise CannotRunError("no docker")
    if _answers(environment):
        yield Engine(environment, own=False)
        return
    if os.geteuid():
        raise CannotRunError("no Docker engine is reachable, and one is started by root only")
    for tool in ("dockerd", "iptables", "iptables-save", "ip", "debootstrap"):
        if not shutil.which(tool):
            raise CannotRunError(f"no Docker engine is reachable, and there is no {tool}")
    rules, forwarding = _run("iptables-save"), _FORWARDING.read_text()
    links = network_links()
    socket = f"unix://{folder}/docker.sock"
    environment["DOCKER_HOST"] = socket
    command = ["dockerd", "--host", socket, "--pidfile", f"{folder}/docker.pid"]
    command += ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
    with (folder / "log").open("w") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 60
        while not _answers(environment):
            if daemon.poll() is not None or time.monotonic() > end:
                last = (folder / "log").read_text().strip().splitlines()[-1:]
                raise CannotRunError(f"dockerd does not start here: {' '.join(last)}")
            time.sleep(0.2)
        yield Engine(environment, own=True)
    finally:
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(60)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        _unmount(folder)
        for name in sorted(network_links() - links):
            if name.startswith(("docker", "br-", "veth")):
                subprocess.run(["ip", "link", "delete", name], check=False)
        _restore(rules)
        if _FORWARDING.read_text() != forwarding:
            _FORWARDING.write_text(forwarding)
        shutil.rmtree(folder)


def make_base_image(engine: Engine, folder: Path) -> None:
    """The base of our Dockerfiles, where it can't be pulled: Debian's own Python 3.11.

    The machine's certificates are copied in, so that an image builds behind a proxy.
    """
    root = folder / "base"
    try:
        _run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(root))
        if _CERTIFICATES.is_file():
            shutil.copy(_CERTIFICATES, root / "etc" / "ssl" / "certs")
        (root / "usr" / "bin" / "python").symlink_to("python3")
        with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as archive:
            engine.docker("import", "--change", 'CMD ["python3"]', "-", BASE, stdin=archive.stdout)
    finally:
        _unmount(root)
        shutil.rmtree(root)


def has_image(engine: Engine, name: str) -> bool:
    return bool(engine.docker("images", "--quiet", name).strip())

"""A packed environment (`EXECUTION_ENV_PATH`): what a model imports, in one archive.

Triton's Python backend unpacks the archive and sources its `bin/activate` before it starts the
model's process (src/pb_env.cc and src/stub_launcher.cc of triton-inference-server/python_backend),
whose interpreter must have the version of the server's stub. The archive holds the installed
packages and that script; the interpreter is the server's own. Servers from 26.06 on refuse links
and paths that lead out of an archive, so it has neither.
"""

import gzip
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from builder.cache.key import cache_key
from builder.errors import SpecError, ToolError
from builder.releases import release_of
from builder.render.templates import render_template
from builder.spec.python_model import PythonSpec

_FORMAT: Final = 1
_TIME: Final = 315_532_800
"""1980, the first time that archives of all kinds know: equal packages make equal bytes."""
_SCRIPT_HEAD: Final = re.compile(rb"#!/bin/sh\n'''exec' [^\n]*\n' '''\n|#![^\n]*\n")
"""How a command names its interpreter: in one line, or in three where that would be too long."""
_SCRIPT_HASH: Final = re.compile(rb"^((?:\.\./)+bin/[^,\n]+),[^\n]*$", re.MULTILINE)
"""What a package says of a command before its first line was changed."""


def python_of(spec: PythonSpec) -> str:
    """Version of the Python that an environment is packed for, X.Y.

    The release's own, by the table.
    """
    if spec.python.python_version:
        return spec.python.python_version
    return release_of(spec.triton_release).python


@dataclass(frozen=True)
class Environment:
    """An environment before it is packed.

    Attributes:
        model: Name of the model, for errors.
        version: Its Python, X.Y.
        lines: What is installed, as requirements.
        asked: Where the version comes from, for errors.
    """

    model: str
    version: str
    lines: Sequence[str]
    asked: str

    @cached_property
    def python(self) -> Path:
        """An interpreter of that version on this machine.

        Raises:
            SpecError: there is none.
        """
        return _find_python(self.version, self.model, self.asked)

    @cached_property
    def key(self) -> str:
        """What it is found under in a cache."""
        full = _run([self.python, "-I", "-c", "import sys; print(sys.version)"]).stdout.strip()
        parts = {"environment": _FORMAT, "python": full, "lines": list(self.lines)}
        return cache_key({**parts, "activate": self._activate})

    @property
    def _activate(self) -> str:
        return render_template("activate.sh.j2", version=self.version, model=self.model)

    def pack(self, archive: Path, step: Callable[[str], None]) -> None:
        """Install the requirements and write the archive.

        Args:
            archive: The .tar.gz to write.
            step: Told about each of the two.

        Raises:
            ToolError: pip can't install them.
        """
        with TemporaryDirectory(prefix="builder-environment-") as scratch:
            folder = Path(scratch) / "env"
            step(f"install requirements of {self.model} for Python {self.version}")
            self._install(folder)
            step(f"pack environment of {self.model}")
            try:
                self._write(folder, archive)
            except OSError:
                archive.unlink(missing_ok=True)
                raise

    def _install(self, folder: Path) -> None:
        made = _run([self.python, "-I", "-m", "venv", "--without-pip", str(folder)])
        if made.returncode:
            raise ToolError(
                f"{self.model}: {self.python} can't make an environment: {_last(made)}; Debian "
                f"has what it needs in python{self.version}-venv"
            )
        if importlib.util.find_spec("pip") is None:
            raise ToolError(
                f"{self.model}: its environment is installed with pip, which the builder's own "
                f"Python lacks: {sys.executable} -m ensurepip"
            )
        wanted = folder.with_name("requirements.txt")
        wanted.write_text("".join(f"{line}\n" for line in self.lines))
        python = folder / "bin" / "python"
        pip: list[str | Path] = [sys.executable, "-I", "-m", "pip", "--python", python]
        done = _run([*pip, "install", "--no-compile", "--no-input", "-r", wanted])
        if done.returncode:
            raise ToolError(
                f"{self.model}: pip can't install its requirements for Python {self.version}: "
                f"{_last(done)}"
            )

    def _write(self, folder: Path, archive: Path) -> None:
        activate = self._activate.encode()
        with (
            archive.open("wb") as file,
            gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            _add(tar, "bin/activate", activate, executable=True)
            for name, content, executable in _scripts(folder):
                _add(tar, f"bin/{name}", content, executable=executable)
            packages = folder / "lib" / f"python{self.version}" / "site-packages"
            for path in _files(packages):
                content = path.read_bytes()
                if path.name == "RECORD":
                    content = _SCRIPT_HASH.sub(rb"\1,,", content)
                place = path.relative_to(folder).as_posix()
                _add(tar, place, content, executable=os.access(path, os.X_OK))


def _add(tar: tarfile.TarFile, name: str, content: bytes, *, executable: bool) -> None:
    """A plain file; links were followed."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(content), _TIME, 0o755 if executable else 0o644
    tar.addfile(entry, io.BytesIO(content))


def _scripts(folder: Path) -> Iterator[tuple[str, bytes, bool]]:
    """Commands that packages brought, run by whatever python3 comes first on PATH."""
    for path in sorted((folder / "bin").iterdir()):
        if path.is_symlink() or path.name.lower().startswith(("activate", "python")):
            continue
        content = path.read_bytes()
        head = _SCRIPT_HEAD.match(content)
        if head and str(folder).encode() in head[0]:
            content = b"#!/usr/bin/env python3\n" + content[head.end() :]
        yield path.name, content, True


def _files(packages: Path) -> Iterator[Path]:
    for path in sorted(packages.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def _find_python(version: str, model: str, asked: str) -> Path:
    """The first interpreter of a version that runs: on PATH, or one of pyenv's."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    name = f"python{version}"
    candidates = [
        getattr(sys, "_base_executable", sys.executable),
        shutil.which(name),
        *sorted(map(str, root.glob(f"versions/{version}.*/bin/{name}"))),
    ]
    for candidate in filter(None, candidates):
        found = _run([candidate, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
        if found.returncode == 0 and found.stdout.strip() == version:
            return Path(candidate)
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    raise SpecError(
        f"{model}: its environment needs Python {version} ({asked}), and this machine has no "
        f"{name}; install it, or set python: python_version (the local server's is {own})"
    )


def _run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end, free of the caller's own Python paths."""
    try:
        return subprocess.run(  # noqa: S603 - no shell, and our own words
            [str(part) for part in command],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=_clean(os.environ),
        )
    except OSError as error:
        return subprocess.CompletedProcess(list(command), 127, "", str(error))


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    own = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_USER"}
    return {key: value for key, value in environment.items() if key not in own}


def _last(done: subprocess.CompletedProcess[str]) -> str:
    """What a tool said was wrong: its first line of error, else its last line."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors[-1:] or lines[-1:] or ["it says nothing"])[0][:300]

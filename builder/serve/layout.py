"""Where the local `tritonserver` is, and what it needs to start.

The wheel `nvidia-pytriton` carries a complete server. It expects its backends in one folder with
the Python stub of the running interpreter, which the wheel keeps elsewhere; `assemble` lays that
folder out (4 MB), so nothing in site-packages is written to.
"""

import importlib.util
import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from builder.errors import ServerError

RUNTIME_BACKENDS = Path(__file__).resolve().parent.parent / "runtime" / "backends"
"""Our Python-based backends: one folder each, with a `model.py`."""

_STUB = "triton_python_backend_stub"
_SYSTEM_LIBRARIES = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/lib",
)


@dataclass(frozen=True)
class Installation:
    """A `tritonserver` on disk."""

    root: Path
    """Folder with `bin/`, `backends/`, `caches/` and `python_backend_stubs/`."""
    libraries: Path
    """Folder with the shared libraries that the server links against."""

    @property
    def binary(self) -> Path:
        """The server's executable."""
        return self.root / "bin" / "tritonserver"


@dataclass(frozen=True)
class Layout:
    """The folders that a started server is pointed at."""

    binary: Path
    backends: Path
    python_backends: tuple[str, ...]
    """`python` and the Python-based ones; each takes its own `--backend-config`."""
    caches: Path
    library_path: str
    """Value of `LD_LIBRARY_PATH`."""


def find_installation() -> Installation:
    """Find the server of the wheel `nvidia-pytriton`, without importing the package.

    Raises `ServerError` when the wheel is not installed or not complete.
    """
    found = importlib.util.find_spec("pytriton")
    if found is None or found.origin is None:
        raise ServerError(
            "there is no tritonserver in this environment; "
            "install the wheel nvidia-pytriton==0.7.0 (pip install '.[local]')"
        )
    package = Path(found.origin).resolve().parent
    installation = Installation(
        root=package / "tritonserver", libraries=package.parent / "nvidia_pytriton.libs"
    )
    for path in (installation.binary, installation.libraries):
        if not path.exists():
            raise ServerError(f"the wheel nvidia-pytriton is incomplete: {path} is missing")
    return installation


def assemble(folder: Path, installation: Installation | None = None) -> Layout:
    """Lay out everything a server needs under `folder`, an empty private folder.

    Raises `ServerError` when the wheel has no stub for this Python or libpython is missing.
    """
    installation = installation or find_installation()
    backends = folder / "backends"
    _copy_backends(installation, backends)
    libraries = folder / "lib"
    libraries.mkdir()
    name, libpython = _find_libpython()
    (libraries / name).symlink_to(libpython)
    return Layout(
        binary=installation.binary,
        backends=backends,
        python_backends=tuple(sorted({path.parent.name for path in backends.glob("*/*.py")})),
        caches=installation.root / "caches",
        library_path=os.pathsep.join(
            part
            for part in (
                str(libraries),
                str(installation.libraries),
                os.environ.get("LD_LIBRARY_PATH", ""),
            )
            if part
        ),
    )


def find_caches(repository: Path) -> set[Path]:
    """`__pycache__` folders under `repository`.

    The stub runs Python isolated, blind to PYTHONDONTWRITEBYTECODE, and writes them next to the
    Python stages; what it adds is removed again when the server ends.
    """
    return set(repository.rglob("__pycache__"))


def _copy_backends(installation: Installation, target: Path) -> None:
    # Copies, because Triton refuses a backend library that a link leads out of its folder to.
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(installation.root / "backends", target, ignore=ignored)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = installation.root / "python_backend_stubs" / version / _STUB
    if not stub.exists():
        raise ServerError(f"the wheel nvidia-pytriton has no Python backend for Python {version}")
    shutil.copy2(stub, target / "python" / _STUB)
    for backend in sorted(RUNTIME_BACKENDS.iterdir()) if RUNTIME_BACKENDS.is_dir() else ():
        if (backend / "model.py").exists() and not (target / backend.name).exists():
            shutil.copytree(backend, target / backend.name, ignore=ignored)


def _find_libpython() -> tuple[str, Path]:
    """Name and path of the shared libpython that the stub links against."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = f"libpython{version}.so.1.0"
    folders = [
        sysconfig.get_config_var("LIBDIR") or "",
        str(Path(sys.base_prefix) / "lib"),
        str(Path(sys.prefix) / "native" / "lib"),
        *os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep),
        *_SYSTEM_LIBRARIES,
    ]
    for folder in folders:
        path = Path(folder) / name
        if folder and path.exists():
            return name, path.resolve()
    raise ServerError(
        f"{name} is missing, which Triton's Python backend links against; install Debian's "
        f"libpython{version} (apt-get install libpython{version}, or without root: "
        f"scripts/install_native_libs.sh {sys.prefix})"
    )

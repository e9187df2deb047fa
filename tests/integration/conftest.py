"""Shared fixtures: real servers that leave nothing behind."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import psutil
import pytest

from builder.serve import TritonServer

Serve = Callable[..., TritonServer]
WriteModel = Callable[..., Path]


@pytest.fixture(scope="session")
def serve_repository() -> Iterator[Serve]:
    """`with serve_repository(folder, **options of TritonServer) as server: server.client...`

    When the tests are over, no process, shared memory or folder of any such server may be left.
    """
    servers: list[TritonServer] = []

    def serve(repository: Path | str, **options: Any) -> TritonServer:
        servers.append(TritonServer(repository, **options))
        return servers[-1]

    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [server.stop() for server in servers])
        yield serve
        assert_nothing_left()


def assert_nothing_left() -> None:
    """No server process, shared memory region or folder of this process."""
    children = psutil.Process().children(recursive=True)
    names = {child.name() for child in children if child.status() != psutil.STATUS_ZOMBIE}
    assert not {name for name in names if name.startswith(("tritonserver", "triton_python"))}
    assert list(Path("/dev/shm").glob(f"builder-{os.getpid()}-*")) == []


@pytest.fixture
def write_model() -> WriteModel:
    """`write_model(repository, name, onnx_model or python_source or None, config_pbtxt)`"""

    def write(
        repository: Path,
        name: str,
        model: onnx.ModelProto | str | None,
        config: str,
        file: str | None = None,
    ) -> Path:
        folder = repository / name / "1"
        folder.mkdir(parents=True)
        if isinstance(model, str):
            (folder / (file or "model.py")).write_text(model)
        elif model is not None:
            (folder / (file or "model.onnx")).write_bytes(model.SerializeToString())
        (repository / name / "config.pbtxt").write_text(config)
        return repository / name

    return write

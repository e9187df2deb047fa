"""Shared fixtures: real servers that leave nothing behind."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import psutil
import pytest

from builder.progress import Progress
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


class Steps(Progress):
    """A build's progress, not shown."""


@dataclass(frozen=True)
class ArrCocServer:
    """The shipped spec, built and served.

    Attributes:
        url: gRPC endpoint, HOST:PORT.
        repository: The folder that is served.
        spec_path: The spec it was built from.
        server: The running server.
    """

    url: str
    repository: Path
    spec_path: Path
    server: TritonServer


@pytest.fixture(scope="session")
def arr_coc_server(
    serve_repository: Serve, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ArrCocServer]:
    """The pipeline of specs/arr_coc.yaml on a real server."""
    from builder.build import Build  # noqa: PLC0415 - brings torch, which most tests don't need
    from builder.spec.load import load_spec  # noqa: PLC0415

    spec_path = Path(__file__).parents[2] / "specs" / "arr_coc.yaml"
    repository = tmp_path_factory.mktemp("arr_coc") / "model_repository"
    Build(load_spec(spec_path), spec_path, repository, Steps()).run()
    with serve_repository(repository) as server:
        yield ArrCocServer(server.grpc_url, repository, spec_path, server)


@pytest.fixture
def cancelled_server(
    arr_coc_server: ArrCocServer, serve_repository: Serve
) -> Iterator[ArrCocServer]:
    """A server of its own for a test that cancels a stream.

    Triton 24.10 crashes now and then when a stream is cancelled or its client dies
    (github.com/triton-inference-server/server/issues/8034): such tests are slow ones, and their
    server is not the others'.
    """
    with serve_repository(arr_coc_server.repository) as server:
        yield replace(arr_coc_server, url=server.grpc_url, server=server)

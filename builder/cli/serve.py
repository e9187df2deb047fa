"""`builder serve DIR`: the repository on a local tritonserver, in the foreground."""

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from builder.errors import ServerError
from builder.serve import TritonServer


class _StopAsked(Exception):  # noqa: N818 (a request, not an error)
    """Ctrl-C or SIGTERM."""


def serve(
    repository: Annotated[
        Path, typer.Argument(metavar="DIR", help="The model repository to serve.")
    ],
    grpc_port: Annotated[int, typer.Option(help="Port of the gRPC endpoint.")] = 8001,
    http_port: Annotated[int, typer.Option(help="Port of the HTTP endpoint.")] = 8000,
    metrics_port: Annotated[int, typer.Option(help="Port of the Prometheus metrics.")] = 8002,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    log_file: Annotated[
        Path | None, typer.Option(help="Keep the server's log in this file.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds that the models may take to load.")
    ] = 600.0,
) -> None:
    """Serve a model repository on a local tritonserver until Ctrl-C.

    It is an old release, for trying out on this machine; nobody else should reach it.
    """
    from builder.cli.local_server import introduce

    console = Console()
    introduce(console, repository, host)
    server = TritonServer(
        repository,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        host=host,
        log_file=log_file,
        timeout=timeout,
    )
    with contextlib.suppress(_StopAsked), _stop_on_signals():
        try:
            with console.status(f"Loading {repository} ..."):
                server.start()
            _print_models(console, server)
            while server.running:
                time.sleep(0.2)
        finally:
            with _signals_ignored():
                server.stop()
        raise ServerError(f"tritonserver ended on its own: {server.log_summary()}")
    console.print("stopped")


def _print_models(console: Console, server: TritonServer) -> None:
    table = Table("model", "version", "state", title=str(server.model_repository))
    for model in server.models():
        state = model["state"] or "not loaded"
        table.add_row(model["name"], model["version"], f"{state} {model['reason']}".strip())
    console.print(table)
    console.print(f"gRPC    {server.grpc_url}", highlight=False)
    console.print(f"HTTP    http://{server.http_url}", highlight=False)
    console.print(f"metrics {server.metrics_url}", highlight=False)
    console.print("Ctrl-C stops the server.")


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise _StopAsked

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _signals_ignored() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

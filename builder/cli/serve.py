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
from builder.serve.ports import check_free
from builder.watch.health import Health, HealthEndpoint
from builder.watch.keeper import GaveUpError, Keeper
from builder.watch.watcher import WatchSettings

_LOOPBACK = "127.0.0.1"


class _StopAsked(Exception):  # noqa: N818 (a request, not an error)
    """Ctrl-C or SIGTERM."""


def serve(
    repository: Annotated[
        Path, typer.Argument(metavar="DIR", help="The model repository to serve.")
    ],
    grpc_port: Annotated[int, typer.Option(help="Port of the gRPC endpoint.")] = 8001,
    http_port: Annotated[int, typer.Option(help="Port of the HTTP endpoint.")] = 8000,
    metrics_port: Annotated[int, typer.Option(help="Port of the Prometheus metrics.")] = 8002,
    health_port: Annotated[
        int, typer.Option(help="Port of the health that is asked of the models; 0: a free one.")
    ] = 8003,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = _LOOPBACK,
    log_file: Annotated[
        Path | None, typer.Option(help="Keep the server's log in this file.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=1.0, help="Seconds that the models may take to load.")
    ] = 600.0,
    grace: Annotated[
        float, typer.Option(min=0.0, help="Seconds that requests under way get at a stop.")
    ] = 10.0,
    watch: Annotated[
        bool,
        typer.Option(help="Ask every model now and then, and restart what does not answer."),
    ] = True,
    interval: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two canaries of a model.")
    ] = 10.0,
    deadline: Annotated[
        float,
        typer.Option(
            min=1.0, help="Seconds that a model may answer neither its canary nor anybody else."
        ),
    ] = 20.0,
    client_shared_memory: Annotated[
        bool,
        typer.Option(
            "--client-shared-memory",
            help="Let clients register shared memory: on any region that this user may write to.",
        ),
    ] = False,
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
        grace=grace,
        client_shared_memory=client_shared_memory,
    )
    say = Console(stderr=True, highlight=False, soft_wrap=True)
    health = Health()
    settings = WatchSettings(interval=interval, deadline=deadline)
    keeper = Keeper(
        server, repository, health, lambda text: say.print(text, markup=False), settings
    )
    if watch and health_port:
        check_free(health_port, "--health-port")
    with contextlib.suppress(_StopAsked), _stop_on_signals(), contextlib.ExitStack() as stack:
        try:
            with console.status(f"Loading {repository} ..."):
                keeper.start()
            if watch:
                endpoint = _listen(health, host, health_port)
                stack.callback(endpoint.close)
            _print_models(console, server, endpoint.port if watch else None)
            if watch:
                keeper.keep(_never)
            while server.running:
                time.sleep(0.2)
        except GaveUpError as error:
            raise ServerError(f"{error}: {server.log_summary()}") from error
        finally:
            with _signals_ignored():
                server.stop()
        raise ServerError(f"tritonserver ended on its own: {server.log_summary()}")
    console.print("stopped")


def _never(seconds: float) -> bool:
    """Wait; a signal ends it with an exception."""
    time.sleep(seconds)
    return False


def _listen(health: Health, host: str, port: int) -> HealthEndpoint:
    try:
        return HealthEndpoint(health, host, port)
    except OSError as error:
        raise ServerError(
            f"port {port} can't be listened on: {error.strerror}; choose another --health-port"
        ) from error


def _print_models(console: Console, server: TritonServer, health_port: int | None) -> None:
    table = Table("model", "version", "state", title=str(server.model_repository))
    for model in server.models():
        state = model["state"] or "not loaded"
        table.add_row(model["name"], model["version"], f"{state} {model['reason']}".strip())
    console.print(table)
    console.print(f"gRPC    {server.grpc_url}", highlight=False)
    console.print(f"HTTP    http://{server.http_url}", highlight=False)
    console.print(f"metrics {server.metrics_url}", highlight=False)
    if health_port is not None:
        url = f"http://{_LOOPBACK}:{health_port}/v2/health/ready"
        console.print(f"health  {url}", highlight=False)
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

"""`builder health`: whether every model of a watched server answers."""

import json
import urllib.error
import urllib.request
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from builder.errors import ServerError


def health(
    url: Annotated[
        str, typer.Option(help="HOST:PORT of the health endpoint of `builder serve` or an image.")
    ] = "localhost:8003",
    as_json: Annotated[bool, typer.Option("--json", help="Print what the server says.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for it.")] = 5.0,
) -> None:
    """Whether every model answers: exit status 0 where all do, 1 where one can't."""
    values = _read(url, timeout)
    if as_json:
        typer.echo(json.dumps(values))
    else:
        _show(Console(), values)
    if not values.get("ready"):
        raise typer.Exit(1)


def _read(url: str, timeout: float) -> dict[str, Any]:
    address = url if "://" in url else f"http://{url}"
    try:
        with urllib.request.urlopen(  # noqa: S310 (what the user says)
            f"{address}/v2/health/ready", timeout=timeout
        ) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        text = error.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ServerError(
            f"nothing answers at {url}: {reason}; is `builder serve` running, and this its "
            "--health-port?"
        ) from error
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ServerError(
            f"{url} is not the health of a watched server; Triton's own ports say less"
        )
    return values


def _show(console: Console, values: dict[str, Any]) -> None:
    table = Table("model", "canary", "seconds", "why", title=str(values.get("state", "")))
    for name, model in values.get("models", {}).items():
        table.add_row(
            name, model["state"], str(model.get("seconds", "")), str(model.get("why", ""))
        )
    console.print(table)
    console.print(f"restarts {values.get('restarts', 0)}", highlight=False)
    if fault := values.get("last_fault"):
        console.print(f"last fault: {fault}", highlight=False, markup=False)

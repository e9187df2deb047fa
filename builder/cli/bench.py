"""`builder bench DIR MODEL...`: perf_analyzer on a local tritonserver."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from builder.bench import Plan, inputs, run, server_url, show
from builder.errors import ToolError


def bench(
    repository: Annotated[
        Path, typer.Argument(metavar="DIR", help="The model repository to serve.")
    ],
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Models to measure.")],
    concurrency: Annotated[
        str, typer.Option(help="Requests under way at once; several with commas.")
    ] = "1,8",
    streaming: Annotated[
        bool | None,
        typer.Option("--streaming/--no-streaming", help="gRPC streams; default: if decoupled."),
    ] = None,
    input_data: Annotated[
        str | None,
        typer.Option(help="perf_analyzer JSON file, 'random' or 'zero'; default: made to fit."),
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Picture to ask arr_coc about.")] = None,
    question: Annotated[
        str, typer.Option("--question", "--text", help="Question to ask arr_coc.")
    ] = inputs.DEFAULT_QUESTION,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens to generate a request.")
    ] = inputs.DEFAULT_MAX_TOKENS,
    shape: Annotated[
        list[str] | None, typer.Option(help="NAME:D1,D2 of an input whose dims vary.")
    ] = None,
    measurement_interval: Annotated[
        int, typer.Option(min=100, help="Length of a measurement window in ms.")
    ] = 2000,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the measurements here.")
    ] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", help="Write a plot here (.png, .svg, .pdf).")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="HOST:PORT of a running server's gRPC; starts none.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds that the models may take to load.")
    ] = 600.0,
) -> None:
    """Measure throughput and latency of served models with perf_analyzer."""
    plan = Plan(
        models=models,
        concurrencies=_concurrencies(concurrency),
        streaming=streaming,
        input_data=input_data,
        image=image,
        question=question,
        max_tokens=max_tokens,
        shapes=inputs.parse_shapes(shape or []),
        interval_ms=measurement_interval,
    )
    if plot_file is not None:
        show.check_plot(plot_file)
    console = Console()
    with (
        console.status(f"Loading {repository} ...") as status,
        server_url(repository, url, timeout=timeout) as served,
    ):
        measurements = run(plan, served, lambda text: status.update(f"Measuring {text} ..."))
    console.print(show.table(measurements))
    if json_file is not None:
        show.write_json(json_file, repository, measurements)
    if plot_file is not None:
        show.plot(plot_file, measurements)


def _concurrencies(text: str) -> list[int]:
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = [0]
    if min(values) < 1:
        raise ToolError(f"--concurrency {text} is not a list of whole numbers from 1, like 1,8")
    return sorted(set(values))

"""`builder inspect REPO`: the models of a repository and the graphs of its ensembles."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def inspect(
    repository: Annotated[
        Path, typer.Argument(metavar="REPO", help="Any Triton model repository.")
    ],
    svg: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the graphs of the ensembles to this file."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print models and graphs as JSON.")
    ] = False,
    release: Annotated[
        str | None,
        typer.Option(
            help="Triton release that serves the repository, YY.MM; default: the one that it was "
            "built for."
        ),
    ] = None,
) -> None:
    """Print the models, shapes and ensemble graphs of a repository; nothing is loaded."""
    from builder.errors import PublishError
    from builder.inspect import graph_of, graphs_svg, read_repository
    from builder.inspect.text import graph_view, models_view

    models = read_repository(repository, release)
    # Without an ensemble, each model is drawn between its request and its response.
    drawn = [m for m in models if m.steps] or [m for m in models if m.inputs or m.outputs]
    graphs = [graph_of(model, models) for model in drawn]
    if svg is not None:
        try:
            svg.write_text(graphs_svg(graphs), encoding="utf-8")
        except OSError as error:
            raise PublishError(f"--svg {svg}: can't be written: {error.strerror}") from error
    if as_json:
        content = {
            "models": [{**asdict(model), "size": model.size} for model in models],
            "graphs": [asdict(graph) for graph in graphs],
        }
        typer.echo(json.dumps(content, indent=2))
        return
    console = Console(highlight=False)
    console.print(models_view(models, str(repository)))
    for graph in graphs:
        console.print(graph_view(graph))
    if svg is not None:
        console.print(f"wrote {svg}", markup=False)

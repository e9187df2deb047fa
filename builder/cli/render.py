"""`builder render SPEC`: configs and Python stages, without weights."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def render(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The spec file.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="The repository to write to.")] = Path(
        "model_repository"
    ),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 where a file would change.")
    ] = False,
) -> None:
    """Write the configs and Python stages of a repository; weights stay as they are."""
    from builder.recipes import drift_of, render_to
    from builder.spec.load import load_any_spec

    loaded = load_any_spec(spec)
    console = Console(highlight=False, soft_wrap=True)
    if check:
        drift = drift_of(loaded, spec, output)
        for name in drift:
            console.print(f"{output / name} differs from what {spec} renders", markup=False)
        if drift:
            console.print(f"run: builder render {spec} --output {output}", markup=False)
            raise typer.Exit(1)
        return
    for config in render_to(loaded, spec, output, output):
        console.print(f"{output / config.name / 'config.pbtxt'}", markup=False)

"""`builder render SPEC`: configs and Python stages, without weights."""

from pathlib import Path
from tempfile import TemporaryDirectory
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
    from builder.arr_coc.facts import load_facts
    from builder.build import rendered_drift, write_text_files
    from builder.spec.load import load_spec

    loaded = load_spec(spec)
    console = Console(highlight=False, soft_wrap=True)
    if check:
        with TemporaryDirectory() as scratch:
            drift = rendered_drift(loaded, spec, output, Path(scratch))
        for name in drift:
            console.print(f"{output / name} differs from what {spec} renders", markup=False)
        if drift:
            console.print(f"run: builder render {spec} --output {output}", markup=False)
            raise typer.Exit(1)
        return
    facts = load_facts(loaded.checkpoint, spec.resolve().parent)
    for config in write_text_files(loaded, facts, spec.name, output):
        console.print(f"{output / config.name / 'config.pbtxt'}", markup=False)

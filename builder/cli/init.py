"""`builder init SOURCE`: a spec with sensible values for a checkpoint."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from builder.errors import SpecError


def init(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Checkpoint folder or hub id.")],
    name: Annotated[str, typer.Option(help="Name of the pipeline.")] = "arr_coc",
    output: Annotated[
        Path | None, typer.Option(metavar="SPEC", help="The spec to write; default NAME.yaml.")
    ] = None,
) -> None:
    """Inspect a checkpoint and write a spec for it."""
    from builder.arr_coc.facts import load_facts
    from builder.arr_coc.relevance import CONFIG_NAME
    from builder.render.templates import render_template
    from builder.spec.load import load_spec
    from builder.spec.models import Checkpoint

    path = output or Path(f"{name}.yaml")
    if path.exists():
        raise SpecError(f"{path} exists; give another --output")
    base = path.resolve().parent
    if not base.is_dir():
        raise SpecError(f"{base} is no folder; make it first")
    folder = Path(source).resolve()
    local = folder.is_dir()
    written = os.path.relpath(folder, base) if local else source
    facts = load_facts(Checkpoint(path=written), base)
    trained = (folder / CONFIG_NAME).is_file() if local else False
    text = render_template(
        "spec.yaml.j2",
        name=name,
        path=json.dumps(written),
        relevance="checkpoint" if trained else "untrained",
        cell_size=facts.cell_size,
        rows=32,
        cols=32,
        kept_tokens=200,
        threads=os.cpu_count() or 1,
    )
    path.write_text(text)
    try:
        load_spec(path)
    except SpecError:
        path.unlink()
        raise
    Console(highlight=False).print(f"wrote {path}; next: builder build {path}", markup=False)

"""`builder init SOURCE`: a spec with sensible values for a checkpoint or an ONNX file."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from builder.errors import SpecError

if TYPE_CHECKING:
    from builder.tasks.checkpoint import CheckpointFiles


def init(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Checkpoint folder, hub id or .onnx file.")
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the model; default: that of the checkpoint.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="SPEC", help="The spec to write; default NAME.yaml.")
    ] = None,
) -> None:
    """Inspect a checkpoint or an ONNX file and write a spec for it."""
    folder = Path(source).resolve()
    local = folder.is_dir()
    base = (output or Path("spec.yaml")).resolve().parent
    if not base.is_dir():
        raise SpecError(f"{base} is no folder; make it first")
    if source.lower().endswith(".onnx"):
        _write(*_onnx_file(folder, name, base), output)
        return
    from builder.arr_coc.checkpoint import refuse_pickles
    from builder.arr_coc.facts import SUPPORTED
    from builder.spec.task import TaskCheckpoint
    from builder.tasks.checkpoint import open_checkpoint

    written = os.path.relpath(folder, base) if local else source
    files = open_checkpoint(TaskCheckpoint(path=written), base)
    refuse_pickles(files.source)
    if files.config.model_type in SUPPORTED:
        name = name or "arr_coc"
        text = _pipeline(name, written, base, folder)
    else:
        name = name or _model_name(folder.name if local else source.rsplit("/", 1)[-1])
        text = _task(name, files)
    _write(name, text, output)


def _write(name: str, text: str, output: Path | None) -> None:
    """Write a spec that loads, or nothing."""
    from builder.spec.load import load_any_spec

    path = output or Path(f"{name}.yaml")
    if path.exists():
        raise SpecError(f"{path} exists; give another --output")
    path.write_text(text)
    try:
        load_any_spec(path)
    except SpecError:
        path.unlink()
        raise
    Console(highlight=False).print(f"wrote {path}; next: builder build {path}", markup=False)


def _onnx_file(path: Path, name: str | None, base: Path) -> tuple[str, str]:
    """Name and spec of an ONNX file."""
    from builder.onnx_models.describe import spec_text

    name = name or _model_name(path.stem)
    return name, spec_text(path, name, os.path.relpath(path, base))


def _model_name(text: str) -> str:
    """A name that Triton takes: letters, digits, underscores."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_").lower() or "model"


def _pipeline(name: str, written: str, base: Path, folder: Path) -> str:
    from builder.arr_coc.facts import load_facts
    from builder.arr_coc.relevance import CONFIG_NAME
    from builder.render.templates import render_template
    from builder.spec.models import Checkpoint

    facts = load_facts(Checkpoint(path=written), base)
    trained = (folder / CONFIG_NAME).is_file()
    return render_template(
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


def _task(name: str, files: CheckpointFiles) -> str:
    from builder.render.templates import render_template
    from builder.spec.task import TaskSpec
    from builder.tasks.registry import guess_task, kind_of

    task = guess_task(files)
    kind = kind_of(TaskSpec(name=name, task=task, checkpoint=files.spec), files.base)
    described = kind.describe()
    return render_template(
        described.template,
        name=name,
        path=json.dumps(files.spec.path),
        task=task,
        kind=described,
        threads=os.cpu_count() or 1,
    )

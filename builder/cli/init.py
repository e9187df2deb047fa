"""`builder init SOURCE`: a spec for a checkpoint, an ONNX file or a Python model."""

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
    from builder.checkpoint.files import CheckpointFiles


def init(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Checkpoint folder, hub id, .onnx file, or folder with a model.py.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the model; default: that of the checkpoint.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="SPEC", help="The spec to write; default NAME.yaml.")
    ] = None,
) -> None:
    """Inspect a checkpoint, an ONNX file or a Python model and write a spec for it."""
    folder = Path(source).resolve()
    local = folder.is_dir()
    base = (output or Path("spec.yaml")).resolve().parent
    if not base.is_dir():
        raise SpecError(f"{base} is no folder; make it first")
    if source.lower().endswith(".onnx"):
        _write(*_onnx_file(folder, name, base), output)
        return
    if _is_python_model(folder):
        _python_model(folder, name, base, output)
        return
    from builder.arr_coc.facts import SUPPORTED
    from builder.checkpoint.files import open_checkpoint
    from builder.checkpoint.pickles import refuse_pickles
    from builder.spec.task import TaskCheckpoint

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


def _is_python_model(path: Path) -> bool:
    """A .py file, or a folder with a model.py that is no checkpoint with code of its own."""
    if path.suffix == ".py":
        return path.is_file()
    return (path / "model.py").is_file() and not (path / "config.json").is_file()


def _python_model(path: Path, name: str | None, base: Path, output: Path | None) -> None:
    from builder.python_models.describe import spec_text

    # A version folder of a model that is served already has the model's name above it.
    named = path.parent if path.name.isdigit() else path
    name = name or _model_name(named.stem)
    text, missing = spec_text(path, name, os.path.relpath(path, base))
    _write(name, text, output)
    if missing:
        Console(highlight=False).print(missing, markup=False, soft_wrap=True)


def _model_name(text: str) -> str:
    """A name that Triton takes: letters, digits, underscores."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_").lower() or "model"


def _pipeline(name: str, written: str, base: Path, folder: Path) -> str:
    from builder.arr_coc.facts import load_facts
    from builder.arr_coc.modules.relevance import CONFIG_NAME
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
    from builder.tasks.registry import guess_task, task_of

    task = guess_task(files)
    kind = task_of(TaskSpec(name=name, task=task, checkpoint=files.spec), files.base)
    described = kind.describe()
    return render_template(
        described.template,
        name=name,
        path=json.dumps(files.spec.path),
        task=task,
        described=described,
        threads=os.cpu_count() or 1,
    )

"""Writing a report: Markdown with its plots beside it, and one HTML file with everything in it."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from builder.errors import PublishError
from builder.inspect.text import size_words
from builder.render.templates import render_page, render_template
from builder.report.facts import read_facts
from builder.report.plots import plots


def report_folder(repository: Path) -> Path:
    """Where a report goes: beside its repository, whose folders Triton takes for models."""
    resolved = repository.resolve()
    return resolved.with_name(f"{resolved.name}-report")


def check_folder(repository: Path, folder: Path) -> None:
    """Refuse a folder for a report that Triton would take for a model.

    Raises:
        PublishError: it lies in the repository.
    """
    if folder.resolve().is_relative_to(repository.resolve()):
        raise PublishError(
            f"--report {folder} lies in the repository, where Triton would take it for a model; "
            "give a folder outside"
        )


def write_report(
    repository: Path,
    folder: Path,
    steps: Sequence[tuple[str, float]] = (),
    members: Collection[str] | None = None,
) -> list[Path]:
    """Write `report.md`, `report.html` and the plots.

    Args:
        repository: What the builder published.
        folder: Where the report goes; older files of the same names are replaced.
        steps: Steps of the build and seconds.
        members: The members to report on; None: all.

    Returns:
        The files, the two reports first.

    Raises:
        PublishError: there is no manifest, or the folder can't be written.
    """
    check_folder(repository, folder)
    facts = read_facts(repository, steps, members)
    drawn = plots(facts)
    spec = json.dumps(dict(facts.spec), indent=2)
    values = {"facts": facts, "plots": drawn, "spec": spec, "size": size_words}
    contents = {
        "report.md": render_template("report.md.j2", **values),
        "report.html": render_page("report.html.j2", **values),
        **{f"{name}.svg": svg for name, svg in drawn.items()},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise PublishError(
            f"{repository} is published, but its report can't be written to {folder}: "
            f"{error.strerror}"
        ) from error
    return [folder / name for name in contents]

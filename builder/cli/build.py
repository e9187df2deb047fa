"""`builder build SPEC`: export, verify, render, validate, publish."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from builder.cli.bars import bars
from builder.cli.quiet import quiet
from builder.cli.variants import variants_table

if TYPE_CHECKING:
    from builder.build import BuildReport
    from builder.verify.measure import ParityRow


class _Bar:
    """Shows the steps of a build as a progress bar."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("build", total=None)
        self._begun = False

    def start(self, steps: int) -> None:
        self._progress.update(self._task, total=steps + 1)  # and loading the libraries

    def step(self, text: str) -> None:
        if self._begun:
            self._progress.advance(self._task)
        self._begun = True
        self._progress.update(self._task, description=text)

    def detail(self, text: str) -> None:
        """How far the step is, in its own words."""
        self._progress.update(self._task, description=text)

    def finish(self) -> None:
        self._progress.advance(self._task)
        self._progress.update(self._task, description="done")


def _parity_table(rows: list[ParityRow]) -> Table:
    table = Table(title="Parity with the source model")
    table.add_column("model")
    table.add_column("tensor")
    for name in ("batch", "max abs error", "min cosine", "indices"):
        table.add_column(name, justify="right")
    for row in rows:
        indices = (
            "" if row.indices_equal is None else "identical" if row.indices_equal else "DIFFER"
        )
        table.add_row(
            row.artifact,
            row.tensor,
            str(row.batch),
            f"{row.max_abs_error:.1e}",
            f"{row.min_cosine:.8f}",
            indices,
        )
    return table


def _models_table(report: BuildReport) -> Table:
    table = Table(title=f"Published to {report.repository}")
    table.add_column("model")
    table.add_column("size", justify="right")
    for name, size in report.models.items():
        table.add_row(name, f"{size / 1e6:.2f} MB")
    return table


def _tell(console: Console, built: BuildReport) -> None:
    """What was built, and what is worth knowing of it."""
    if built.parity:
        console.print(_parity_table(built.parity))
    console.print(_models_table(built))
    for model, outcome in built.precision.items():
        console.print(variants_table(model, outcome))
    for note in built.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    for name in built.carried:
        console.print(f"kept {name}: it was there and is not the builder's", highlight=False)
    for name, number in built.members.items():
        if number > 1:
            console.print(f"{name}: version {number} answers", highlight=False)


def build(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The spec file.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="The repository to write.")] = Path(
        "model_repository"
    ),
    target: Annotated[
        Literal["cpu", "gpu", "tensorrt"] | None,
        typer.Option(help="Build for this instead of the spec's target."),
    ] = None,
    release: Annotated[
        str | None,
        typer.Option(metavar="YY.MM", help="Build for this Triton release instead of the spec's."),
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="NAME", help="Build one model anew, keep the others.")
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(
            metavar="N|next",
            help="Write this version beside the older ones, and let it answer.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where the build's report goes; default: OUTPUT-report, beside it."
        ),
    ] = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.")] = False,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where finished artifacts are kept; default: "
            "$XDG_CACHE_HOME/triton-repository-builder.",
        ),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Make everything anew and keep nothing.")
    ] = False,
) -> None:
    """Build a verified model repository from a spec, and a report of it."""
    from builder.errors import PublishError
    from builder.releases import release_of, table
    from builder.report import StepTimes, check_folder, report_folder, write_report
    from builder.spec.load import load_any_spec, with_values

    loaded = load_any_spec(spec)
    asked = {"target": target, "triton_release": release and release_of(release).name}
    loaded = with_values(loaded, **{key: value for key, value in asked.items() if value})
    if report is not None:
        check_folder(output, report)
    console = Console()
    with bars() as progress:
        bar = _Bar(progress)
        steps = StepTimes(bar)
        steps.step("load libraries")
        quiet()
        from builder.build import Build
        from builder.cache.store import Store, default_folder

        store = None if no_cache else Store(cache or default_folder())
        built = Build(loaded, spec, output, steps, store, version).run(only)
        seconds = steps.seconds()
        bar.finish()
    _tell(console, built)
    advice = table().security_advice(loaded.triton_release)
    if advice:
        console.print(f"note: {advice}", highlight=False, markup=False, soft_wrap=True)
    if no_report:
        return
    folder = report or report_folder(output)
    try:
        write_report(output, folder, seconds, built.members)
    except PublishError as error:
        if report is not None:
            raise
        # Nobody asked for it there, and the repository is published.
        console.print(str(error), highlight=False, markup=False, soft_wrap=True)
    else:
        console.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)

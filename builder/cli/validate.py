"""`builder validate DIR`: Triton's load checks, offline."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How findings are printed."""

    TEXT = "text"
    JSON = "json"


def validate(
    repository: Annotated[
        Path, typer.Argument(metavar="DIR", help="The model repository to check.")
    ],
    output_format: Annotated[
        Format, typer.Option("--format", help="Text for people, JSON for CI.")
    ] = Format.TEXT,
    show_effective: Annotated[
        bool, typer.Option("--show-effective", help="Print the configs as Triton completes them.")
    ] = False,
    release: Annotated[
        str | None,
        typer.Option(
            help="Triton release that serves the repository, YY.MM; default: the one that it was "
            "built for."
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="A release with known critical vulnerabilities is an error, no advice."
        ),
    ] = False,
    gpus: Annotated[
        int | None, typer.Option(min=0, help="GPUs of the server; not given: not known.")
    ] = None,
    rate_limit: Annotated[
        bool, typer.Option("--rate-limit", help="The server runs with a rate limiter.")
    ] = False,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="A backend of the server beyond those of the NGC images; repeatable."),
    ] = None,
) -> None:
    """Say what Triton will say when it loads a repository, and how to mend it.

    Exits with 0 if Triton would load every model (there may be advice), 1 if it would not, and 2
    if DIR is no model repository.
    """
    from builder.validate import Target, load_models, release_of_repository, validate_models
    from builder.validate.report import as_json, as_text, effective_report
    from builder.validate.security import release_findings

    target = Target(
        release=release or release_of_repository(repository),
        gpus=gpus,
        rate_limit=rate_limit,
        own_backends=frozenset(backend or ()),
    )
    models = load_models(repository, target)
    findings = release_findings(target, strict=strict) + validate_models(models)
    if output_format is Format.JSON:
        typer.echo(as_json(findings, models if show_effective else None))
    else:
        if show_effective:
            typer.echo(effective_report(models))
        typer.echo(as_text(findings, repository, len(models)))
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)

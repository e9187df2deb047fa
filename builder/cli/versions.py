"""`builder versions DIR`: the members of a repository and their versions."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def versions(
    repository: Annotated[Path, typer.Argument(metavar="DIR", help="The repository.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the members of a repository, their versions, and which of them answers."""
    from builder.errors import PublishError
    from builder.publish.manifest import read_manifest

    manifest = read_manifest(repository)
    if not manifest.members:
        raise PublishError(f"{repository} has no manifest.json of a build")
    rows = [
        {
            "member": name,
            "version": number,
            "answers": number == member.live,
            "triton_release": str(version.spec.get("triton_release", "")),
            "target": str(version.spec.get("target", "")),
            "models": member.models,
            "source": version.source.sha256,
            "origin": member.origin,
        }
        for name, member in manifest.members.items()
        for number, version in member.versions.items()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(
        "member", "version", "answers", "release", "target", "models", "source", "spec",
        title=str(repository),
    )  # fmt: skip
    for row in rows:
        table.add_row(
            str(row["member"]),
            str(row["version"]),
            "yes" if row["answers"] else "",
            str(row["triton_release"]),
            str(row["target"]),
            str(len(manifest.members[str(row["member"])].models)),
            str(row["source"])[:12],
            str(row["origin"]),
        )
    Console().print(table)

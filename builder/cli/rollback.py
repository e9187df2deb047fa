"""`builder rollback NAME DIR`: an older version of a member answers again."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The member.")],
    repository: Annotated[Path, typer.Argument(metavar="DIR", help="The repository.")],
    to: Annotated[
        int | None, typer.Option(help="The version; default: the one before.", min=1)
    ] = None,
) -> None:
    """Let another version of a member answer; a server that polls takes it by itself."""
    from builder.publish.members import roll_back

    before, after = roll_back(repository, name, to)
    words = f"{name}: version {after} answers"
    Console(highlight=False).print(
        words if before == after else f"{words} (it was {before})", markup=False
    )

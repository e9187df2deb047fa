"""`builder remove NAME DIR`: one member out of a repository."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The member.")],
    repository: Annotated[Path, typer.Argument(metavar="DIR", help="The repository.")],
) -> None:
    """Take one member out of a repository; all other files stay as they are."""
    from builder.publish.members import remove_member

    models = remove_member(repository, name)
    Console(highlight=False).print(f"removed {name}: {', '.join(models)}", markup=False)

"""The command line. Each command is a module; heavy imports happen inside the commands, so that
`builder serve` runs where torch is not installed.
"""

import sys

import typer
from rich.console import Console

from builder.cli.ask import ask
from builder.cli.bench import bench
from builder.cli.build import build
from builder.cli.eval import evaluate
from builder.cli.health import health
from builder.cli.init import init
from builder.cli.inspect import inspect
from builder.cli.remove import remove
from builder.cli.render import render
from builder.cli.rollback import rollback
from builder.cli.serve import serve
from builder.cli.validate import validate
from builder.cli.versions import versions
from builder.errors import BuilderError

app = typer.Typer(
    name="builder",
    help="One spec file in, one verified Triton model repository out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (
    init,
    build,
    render,
    validate,
    inspect,
    serve,
    health,
    ask,
    bench,
    versions,
    rollback,
    remove,
):
    app.command(_command.__name__)(_command)
app.command("eval")(evaluate)


def main() -> None:
    """Run the command line; a user's mistake is one message on stderr and exit code 2."""
    try:
        app()
    except BuilderError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"builder: {error}", markup=False
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)

"""Entry point of the CPU image: a watched `tritonserver` on the repository given.

    python3 serve.py /models [tritonserver arguments ...]

The server's log is the container's log. What the watch does and the variables that set it:
builder/watch/container.py.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from builder.errors import ServerError
from builder.serve.layout import assemble
from builder.watch.container import serve


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM; exit status 2 when it can't be started."""
    if not arguments:
        _fail("usage: serve.py REPOSITORY [tritonserver arguments ...]")
    repository, *extra = arguments
    if not Path(repository).is_dir():
        _fail(f"Model repository {repository} is not a folder; mount one there.")
    with tempfile.TemporaryDirectory(prefix="tritonserver-") as folder:
        return _serve(repository, extra, Path(folder))


def _serve(repository: str, extra: list[str], folder: Path) -> int:
    try:
        layout = assemble(folder)
    except ServerError as error:
        _fail(str(error))
    command = [
        str(layout.binary),
        f"--model-repository={repository}",
        f"--backend-directory={layout.backends}",
        f"--cache-directory={layout.caches}",
        *extra,
    ]
    environment = {
        "OPENBLAS_NUM_THREADS": "1",  # a stage's numpy is for bookkeeping
        **os.environ,
        # The Python backend finds its packages through the first python3 on PATH.
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
        "LD_LIBRARY_PATH": layout.library_path,
        "PYTHONDONTWRITEBYTECODE": "1",  # the repository is mounted read-only
    }
    return serve(command, environment, layout.python_backends)


def _fail(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

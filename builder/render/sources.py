"""The sources of a Python stage, as they lie in a repository."""

import re
from pathlib import Path

from builder.errors import RenderError

_STAGES = Path(__file__).parents[1] / "runtime" / "models"
_BORROWED = re.compile(r"^from \.\.(\w+)\.(\w+) import ", re.MULTILINE)
_OWN = re.compile(r"^from \.(\w+) import ", re.MULTILINE)


def copy_sources(stage: str, folder: Path) -> None:
    """Copy a stage, and what it imports of other stages, into one flat folder.

    Triton imports a model from a bare folder that knows no other stage: `from ..language.text
    import` becomes `from .text import`. No `__init__` is copied.

    Args:
        stage: A folder of `builder/runtime/models`.
        folder: The model's version folder.

    Raises:
        RenderError: two of the files have the same name.
    """
    waiting = [path for path in (_STAGES / stage).glob("*.py") if path.stem != "__init__"]
    taken: dict[str, Path] = {}
    while waiting:
        path = waiting.pop()
        if path.name in taken:
            if taken[path.name] != path:
                raise RenderError(f"{path} and {taken[path.name]} can't lie in one model folder")
            continue
        taken[path.name] = path
        text = path.read_text()
        (folder / path.name).write_text(_BORROWED.sub(r"from .\2 import ", text))
        waiting += [_STAGES / found[1] / f"{found[2]}.py" for found in _BORROWED.finditer(text)]
        waiting += [path.with_name(f"{found[1]}.py") for found in _OWN.finditer(text)]

"""A Python model's `model.py`, read with `ast` and never imported."""

import ast
import warnings
from dataclasses import dataclass

CLASS = "TritonPythonModel"


class PythonReadError(Exception):
    """The source does not parse; `line` is where."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(frozen=True, slots=True)
class PythonModel:
    """What a `model.py` defines.

    `line` is the class's, 0 where it is not defined here. `imported`: the class may come from
    another module. `methods` are the names bound in the class's body; `inherits`: there may be
    more, from a base class.
    """

    line: int
    imported: bool
    methods: frozenset[str]
    inherits: bool
    returns_no_config: int = 0
    """Line of an `auto_complete_config` that returns nothing, 0 where there is none."""


def read_python(source: bytes) -> PythonModel:
    """Read the class `TritonPythonModel` of a `model.py`.

    Raises `PythonReadError` where the source is no Python.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except SyntaxError as error:
        raise PythonReadError(error.msg, error.lineno or 1) from None
    except (ValueError, RecursionError, MemoryError) as error:
        # NUL bytes, an encoding that does not exist, or nesting deeper than the parser's stack.
        raise PythonReadError(str(error) or "it is nested too deeply", 1) from None
    found: ast.ClassDef | None = None
    imported = False
    for statement in _statements(tree.body):
        if isinstance(statement, ast.ClassDef):
            if statement.name == CLASS:
                found = statement
        elif isinstance(statement, ast.ImportFrom):
            imported |= any(
                (alias.asname or alias.name) in (CLASS, "*") for alias in statement.names
            )
        elif isinstance(statement, ast.Assign):
            imported |= any(
                isinstance(target, ast.Name) and target.id == CLASS for target in statement.targets
            )
    if found is None:
        return PythonModel(0, imported, frozenset(), imported)
    bases = [
        base for base in found.bases if not (isinstance(base, ast.Name) and base.id == "object")
    ]
    return PythonModel(
        found.lineno,
        imported,
        frozenset(_bound(found.body)),
        bool(bases) or bool(found.decorator_list) or bool(found.keywords),
        _returns_no_config(found),
    )


def _returns_no_config(found: ast.ClassDef) -> int:
    for statement in found.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "auto_complete_config":
            inner = list(ast.walk(statement))
            returns = any(isinstance(n, ast.Return) and n.value is not None for n in inner)
            if not returns and not any(isinstance(n, ast.Raise) for n in inner):
                return statement.lineno
    return 0


def _statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """The statements of a module, those below `if`, `try` and `with` too."""
    found: list[ast.stmt] = []
    waiting = list(reversed(body))
    while waiting:
        statement = waiting.pop()
        found.append(statement)
        for block in ("body", "orelse", "finalbody"):
            if isinstance(statement, ast.If | ast.Try | ast.With):
                waiting.extend(reversed(getattr(statement, block, [])))
        for handler in getattr(statement, "handlers", []):
            waiting.extend(reversed(handler.body))
    return found


def _bound(body: list[ast.stmt]) -> set[str]:
    names: set[str] = set()
    for statement in _statements(body):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Assign):
            names.update(t.id for t in statement.targets if isinstance(t, ast.Name))
    return names

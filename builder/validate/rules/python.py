"""Models of the Python backend."""

from collections.abc import Iterator

from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.python_source import CLASS
from builder.validate.registry import rule

_SECTION = "Python models"
_ENV = "EXECUTION_ENV_PATH"
_MODEL_DIRECTORY = "$$TRITON_MODEL_DIRECTORY"


@rule(
    "python.source",
    section=_SECTION,
    reason="the stub imports model.py at load",
    source="python_stub",
)
def source_parses(model: Model) -> Iterator[Problem]:
    """`model.py` is Python that can be read."""
    for version, failure in model.python_failures.items():
        yield Problem(
            "",
            f"model.py is no Python: {failure.message}",
            "correct the source",
            file=model.file(model.artifact(version, "model.py")),
            line=failure.line,
        )


@rule(
    "python.class",
    section=_SECTION,
    reason="the stub looks for this class",
    source="python_stub",
)
def class_is_defined(model: Model) -> Iterator[Problem]:
    """`model.py` defines or imports `TritonPythonModel`."""
    for version, source in model.python_models.items():
        if not source.line and not source.imported:
            yield Problem(
                "",
                f"model.py has no class {CLASS}",
                f"call the model's class {CLASS}",
                file=model.file(model.artifact(version, "model.py")),
            )


@rule(
    "python.execute",
    section=_SECTION,
    reason="Triton loads a model without execute and fails each of its requests",
    source="python_stub",
)
def execute_is_defined(model: Model) -> Iterator[Problem]:
    """`TritonPythonModel` has a method `execute`."""
    for version, source in model.python_models.items():
        if source.line and "execute" not in source.methods and not source.inherits:
            yield Problem(
                "",
                f"{CLASS} has no method execute",
                "define execute(self, requests), which returns the responses",
                file=model.file(model.artifact(version, "model.py")),
                line=source.line,
            )


@rule(
    "python.auto-complete",
    section=_SECTION,
    reason="the stub takes the config that auto_complete_config returns",
    source="python_stub",
)
def auto_complete_returns_the_config(model: Model) -> Iterator[Problem]:
    """`auto_complete_config` returns something."""
    for version, source in model.python_models.items():
        if source.returns_no_config:
            yield Problem(
                "",
                "auto_complete_config returns nothing",
                "return the config that it was given",
                file=model.file(model.artifact(version, "model.py")),
                line=source.returns_no_config,
            )


@rule(
    "python.environment",
    section=_SECTION,
    reason="the environment is unpacked before the model is started",
    source="python",
)
def environment_exists(model: Model) -> Iterator[Problem]:
    """An `EXECUTION_ENV_PATH` inside the model's folder exists."""
    path = _environment(model)
    if path is None or not path.startswith(_MODEL_DIRECTORY):
        return
    inside = path[len(_MODEL_DIRECTORY) :].strip("/")
    if not inside or not model.repository.exists(model.path / inside):
        yield Problem(
            f'parameters["{_ENV}"]',
            f"the environment {path!r} is not there",
            f"pack it with conda-pack into {model.name}/{inside or 'env.tar.gz'}",
        )


@rule(
    "python.environment-outside",
    section=_SECTION,
    reason="what lies outside the repository is not seen from here and not published",
    source="python",
    severity="advice",
)
def environment_is_inside(model: Model) -> Iterator[Problem]:
    """`EXECUTION_ENV_PATH` starts with the model's folder."""
    path = _environment(model)
    if path is not None and not path.startswith(_MODEL_DIRECTORY):
        yield Problem(
            f'parameters["{_ENV}"]',
            f"the model loads only where {path!r} exists on the server",
            f"put the archive into the model's folder and write {_MODEL_DIRECTORY}/env.tar.gz",
        )


def _environment(model: Model) -> str | None:
    if model.backend != "python" or _ENV not in model.config.parameters:
        return None
    return model.config.parameters[_ENV].string_value or None

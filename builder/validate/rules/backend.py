"""Which backend serves the model."""

import posixpath
from collections.abc import Iterator
from pathlib import Path

from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import rule

_SECTION = "platform and backend"
_PLATFORM_OF = {
    "tensorflow": ("tensorflow_graphdef", "tensorflow_savedmodel"),
    "tensorrt": ("tensorrt_plan",),
    "onnxruntime": ("onnxruntime_onnx",),
    "pytorch": ("pytorch_libtorch",),
}
_AGENTS = frozenset({"checksum"})


@rule(
    "backend.undetermined",
    section=_SECTION,
    reason="without a backend Triton does not know what to load the model with",
    source="config",
)
def backend_can_be_told(model: Model) -> Iterator[Problem]:
    """The config or the files tell the backend."""
    if model.completion_error and not model.backend:
        yield Problem("", model.completion_error, 'write backend: "..." or add the model file')
    elif not model.backend and model.config.platform != "ensemble":
        yield Problem(
            "platform",
            f"Triton knows no platform {model.config.platform!r}",
            'write backend: "onnxruntime", "tensorrt", "python" ... and no platform',
        )


@rule(
    "backend.ensemble",
    section=_SECTION,
    reason="an ensemble is run by Triton's core; it has the platform ensemble and no backend",
    source="config",
)
def ensemble_has_no_backend(model: Model) -> Iterator[Problem]:
    """Platform `ensemble`, `ensemble_scheduling` and an empty backend go together."""
    is_platform = model.config.platform == "ensemble"
    if is_platform and model.backend:
        yield Problem(
            "backend",
            f"an ensemble has no backend, but it is {model.backend!r} here",
            "remove the backend",
        )
    if is_platform and not model.is_ensemble:
        yield Problem(
            "platform",
            "the platform is ensemble, but there is no ensemble_scheduling",
            "add ensemble_scheduling, or name the backend instead",
        )
    if model.is_ensemble and not is_platform:
        yield Problem(
            "ensemble_scheduling",
            f"ensemble_scheduling is set, but the platform is {model.config.platform!r}",
            'write platform: "ensemble" and no backend',
        )


@rule(
    "backend.platform",
    section=_SECTION,
    reason="for the backends that Triton knows, platform and backend must belong together",
    source="config",
)
def platform_fits_backend(model: Model) -> Iterator[Problem]:
    """`platform` and `backend` are a pair."""
    expected = _PLATFORM_OF.get(model.backend)
    if model.backend == "pytorch" and model.target.has("torch-aoti"):
        expected = (*_PLATFORM_OF["pytorch"], "torch_aoti")
    if expected is not None and model.config.platform not in expected:
        yield Problem(
            "platform",
            f"backend {model.backend!r} does not go with platform {model.config.platform!r}",
            f"remove the platform or write platform: {expected[0]!r}",
        )


@rule(
    "backend.unknown",
    section=_SECTION,
    reason="the backend's library must lie in the server's backend folder, the model's folder or "
    "the version's",
    source="backend",
)
def backend_exists(model: Model) -> Iterator[Problem]:
    """The server has the backend, or the model brings it along."""
    if not model.backend or model.is_ensemble:
        return
    runtime = model.config.runtime
    library = runtime or f"libtriton_{model.backend}.so"
    if runtime == "model.py":
        found = "python" in model.target.all_backends and model.backend in model.target.python_based
        if not found:
            yield Problem(
                "runtime",
                f"the backend {model.backend!r} has no Python runtime (model.py)",
                "remove runtime",
            )
        return
    folders = [model.path, *(model.path / str(version) for version in model.versions)]
    if not (_is_the_backends(model, library) or any(_brings(model, f, library) for f in folders)):
        yield Problem(
            "runtime" if runtime else "backend",
            f"Triton {model.target.release} has no backend {model.backend!r} ({library})",
            f"use one of {', '.join(sorted(model.target.all_backends))}, or put {library} into the "
            "model's folder",
        )


def _is_the_backends(model: Model, library: str) -> bool:
    """Whether `library`, seen from the server's folder of the backend, is its library."""
    found = posixpath.normpath(f"{model.backend}/{library}")
    return model.backend in model.target.all_backends and (
        found == f"{model.backend}/libtriton_{model.backend}.so"
    )


def _brings(model: Model, folder: Path, library: str) -> bool:
    """Whether the model brings `library` along in `folder`."""
    inside = not posixpath.normpath(library).startswith(("../", "/"))
    return inside and model.repository.exists(folder / library)


@rule(
    "backend.repository-agent",
    section=_SECTION,
    reason="an agent's library must lie in the server's repository agent folder",
    source="repository",
)
def agents_exist(model: Model) -> Iterator[Problem]:
    """Every repository agent is one of the server's."""
    for index, agent in enumerate(model.config.model_repository_agents.agents):
        if agent.name not in _AGENTS:
            yield Problem(
                f"model_repository_agents.agents[{index}].name",
                f"Triton has no repository agent {agent.name!r}",
                f"use one of {', '.join(sorted(_AGENTS))} or remove the agent",
            )

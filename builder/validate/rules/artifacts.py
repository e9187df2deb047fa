"""The model file of each version."""

from collections.abc import Iterator

from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import rule

DEFAULT_FILES = {
    "onnxruntime": "model.onnx",
    "openvino": "model.xml",
    "python": "model.py",
    "pytorch": "model.pt",
    "tensorflow": "model.savedmodel",
    "tensorrt": "model.plan",
}
"""Backends that read a file of the version folder -> its name where the config says none."""
_OF_PYTHON = ("model.py", "model.pt")
"""What the Python runtime of the pytorch backend looks for
(https://github.com/triton-inference-server/pytorch_backend/blob/r24.10/src/model.py)."""


@rule(
    "artifact.negative-version",
    section="directory and version layout",
    reason="Triton takes the folder -1 for version -1, and backends, which count versions from 0, "
    "look for version 18446744073709551615; a Python model is then never ready, nor is the server",
    source="lifecycle",
)
def versions_are_not_negative(model: Model) -> Iterator[Problem]:
    """No version below 0 of a model whose backend reads its version folder is loaded."""
    if model.backend not in DEFAULT_FILES or model.is_ensemble:
        return
    for version in model.versions:
        if version < 0:
            name = model.all_versions[version]
            yield Problem(
                "",
                f"the folder {name!r} is version {version}, for which the backend looks into "
                f"{model.version_path(version).name}/"
                + ("; the server would never become ready" if model.backend == "python" else ""),
                "call it by a number of 1 or more",
                file=model.file(model.path / name),
            )


@rule(
    "artifact.missing",
    section="directory and version layout",
    reason="the backend loads <model>/<version>/<default_model_filename>",
    source="docs_repository",
)
def artifact_exists(model: Model) -> Iterator[Problem]:
    """Every loaded version has its model file."""
    default = DEFAULT_FILES.get(model.backend)
    if default is None or model.is_ensemble:
        return
    for version in model.versions:
        if version < 0:
            continue  # artifact.negative-version has the cause
        path = model.artifact(version, default)
        if model.backend == "pytorch" and model.config.runtime == "model.py":
            # The backend's own model.py takes either of them.
            if any(model.repository.exists(model.version_path(version) / n) for n in _OF_PYTHON):
                continue
            default = "model.py"
        if model.backend == "onnxruntime":
            path = model.onnx_path(version)
        if not model.repository.exists(path):
            shown = path.name if path.parent == model.version_path(version) else str(path)
            yield Problem(
                "default_model_filename",
                f"version {version} has no file {shown}",
                "put the model there, or name its file with default_model_filename",
                file=model.file(model.version_path(version)),
            )


@rule(
    "artifact.escapes",
    section="directory and version layout",
    reason="a model file outside the version folder is not published with it",
    source="docs_repository",
    severity="advice",
)
def artifact_is_inside(model: Model) -> Iterator[Problem]:
    """`default_model_filename` is a name, not a way out of the version folder."""
    name = model.config.default_model_filename
    if name.startswith("/") or ".." in name.split("/"):
        yield Problem(
            "default_model_filename",
            f"default_model_filename {name!r} leaves the version folder",
            "put the file into the version folder and give its name",
        )

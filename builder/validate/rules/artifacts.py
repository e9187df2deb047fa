"""The model file of each version."""

from collections.abc import Iterator

from builder.validate.findings import Problem
from builder.validate.model import Model
from builder.validate.registry import rule

_DEFAULT_FILES = {
    "onnxruntime": "model.onnx",
    "openvino": "model.xml",
    "python": "model.py",
    "pytorch": "model.pt",
    "tensorflow": "model.savedmodel",
    "tensorrt": "model.plan",
}


@rule(
    "artifact.missing",
    section="directory and version layout",
    reason="the backend loads <model>/<version>/<default_model_filename>",
    source="docs_repository",
)
def artifact_exists(model: Model) -> Iterator[Problem]:
    """Every loaded version has its model file."""
    default = _DEFAULT_FILES.get(model.backend)
    if default is None or model.is_ensemble:
        return
    for version in model.versions:
        path = model.artifact(version, default)
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

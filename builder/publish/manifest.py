"""The manifest: what a repository was built from, with what, and the hash of every file."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

MANIFEST_NAME = "manifest.json"

_PACKAGES = (
    "triton-repository-builder",
    "torch",
    "transformers",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "tokenizers",
    "numpy",
    "pillow",
    "tensorrt",
)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_versions() -> dict[str, str]:
    """Versions of the packages that shape an artifact, as far as they are installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_manifest(
    repository: Path,
    *,
    models: Iterable[str],
    spec: Mapping[str, Any],
    source: Mapping[str, str],
    parity: list[dict[str, Any]],
    precision: Mapping[str, Any] | None = None,
) -> None:
    """Write `manifest.json` into a repository that is otherwise complete.

    Args:
        repository: The folder.
        models: Names of the models that the builder owns.
        spec: The whole spec, defaults included.
        source: Source file name -> sha256, or `commit` of a checkpoint on the hub.
        parity: Rows of the parity table.
        precision: Model name -> the candidates that were measured for it, and the choice.
    """
    names = sorted(models)
    files = {
        str(path.relative_to(repository)): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(repository.rglob("*"))
        if path.is_file() and path.name != MANIFEST_NAME
    }
    source_hash = hashlib.sha256(json.dumps(dict(source), sort_keys=True).encode()).hexdigest()
    manifest = {
        "models": names,
        "source": {"sha256": source_hash, "files": dict(source)},
        "versions": package_versions(),
        "spec": spec,
        "parity": parity,
        "precision": dict(precision or {}),
        "files": files,
    }
    (repository / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2) + "\n")


def read_manifest(repository: Path) -> dict[str, Any]:
    """The manifest of a repository; empty where there is none that can be read."""
    try:
        manifest = json.loads((repository / MANIFEST_NAME).read_text())
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def owned_models(repository: Path) -> set[str]:
    """Names of the models that an earlier build wrote."""
    models = read_manifest(repository).get("models", [])
    return {name for name in models if isinstance(name, str)} if isinstance(models, list) else set()

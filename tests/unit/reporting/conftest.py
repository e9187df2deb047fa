"""A published repository to report on: the shipped one, with a manifest."""

from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from builder.publish.manifest import (
    Manifest,
    MemberRecord,
    Source,
    VersionRecord,
    hashed_files,
    package_versions,
)
from builder.spec.models import Tolerance
from builder.verify.measure import ParityRow

ROOT = Path(__file__).parents[3]


def row(artifact: str, error: float, batch: int = 1, allowed: float = 1e-3) -> dict[str, Any]:
    tolerance = Tolerance(max_abs_error=allowed, min_cosine=0.999)
    return ParityRow(artifact, "image_embeds", batch, error, 0.99999, tolerance).as_dict()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    copytree(ROOT / "model_repository", folder)
    for name in ("vision", "relevance"):
        version = folder / name / "1"
        version.mkdir(exist_ok=True)  # git keeps no weights, and so not the folder
        (version / "model.onnx").write_bytes(b"x" * 1_500_000)
    version = VersionRecord(
        spec={"name": "arr_coc", "checkpoint": {"path": "some/checkpoint"}, "target": "cpu"},
        source=Source.of({"model.safetensors": "ab" * 32}),
        packages=package_versions(),
        parity=[row("vision", 2e-6), row("vision", 0.0, 5), row("relevance", 4e-7)],
    )
    models = ["preprocess", "vision", "relevance", "language", "arr_coc"]
    member = MemberRecord(models=models, versions={1: version})
    Manifest(members={"arr_coc": member}, files=hashed_files(folder, models)).write(folder)
    return folder

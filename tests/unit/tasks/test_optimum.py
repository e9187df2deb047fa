"""The exporter of optimum: same names and shapes as the others, and what is said without it."""

from pathlib import Path
from typing import Any

import onnx
import pytest

from builder.errors import ExportError
from builder.spec.releases import onnx_limits
from builder.tasks.export import export_graph
from builder.tasks.optimum import ENVIRONMENT, optimum_command
from builder.tasks.parity import verify_graph
from examples.tiny.tasks import save_clip, save_image_model

from .conftest import kind

LIMITS = onnx_limits("24.10")


def installed() -> bool:
    try:
        optimum_command()
    except ExportError:
        return False
    return True


def test_without_the_environment(
    checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    (graph,) = kind(checkpoint("bert fill-mask"), "fill-mask").graphs()
    with pytest.raises(ExportError, match="run `make install-optimum`"):
        export_graph(graph, tmp_path / "model.onnx", "optimum", LIMITS)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_a_checkpoint(tmp_path: Path) -> None:
    graph, _ = kind(save_clip(tmp_path / "clip"), "zero-shot-image-classification").graphs()
    with pytest.raises(ExportError, match="exports whole checkpoints"):
        export_graph(graph, tmp_path / "model.onnx", "optimum", LIMITS)


@pytest.mark.slow
@pytest.mark.skipif(not installed(), reason="make install-optimum")
@pytest.mark.parametrize(
    "name",
    [
        "bert feature-extraction",
        "bert question-answering",
        "roberta fill-mask",
        "roberta text-classification",
        "vit image-classification",
    ],
)
def test_the_graph_is_that_of_the_other_exporters(
    checkpoint: Any, tmp_path: Path, name: str
) -> None:
    family, task = name.split()
    if family == "vit":
        made = kind(save_image_model(tmp_path / "vit", "vit"), task)
    else:
        made = kind(checkpoint(name), task)
    (graph,) = made.graphs()
    path = tmp_path / "model.onnx"
    export_graph(graph, path, "optimum", LIMITS)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == [t.name for t in graph.inputs]
    assert [value.name for value in model.graph.output] == [t.name for t in graph.outputs]
    rows = verify_graph(graph.name, path, list(graph.samples()), made.spec.tolerance)
    assert rows
    assert all(row.passed for row in rows)
    assert hasattr(graph.module, "model"), "the module is whole again"


@pytest.mark.slow
@pytest.mark.skipif(not installed(), reason="make install-optimum")
def test_what_optimum_says_is_passed_on(checkpoint: Any, tmp_path: Path) -> None:
    (graph,) = kind(checkpoint("bert fill-mask"), "fill-mask").graphs()
    assert graph.origin is not None
    (graph.origin.folder / "config.json").rename(tmp_path / "config.json")
    try:
        with pytest.raises(ExportError, match=r"m_model: the export by optimum failed: \w+"):
            export_graph(graph, tmp_path / "model.onnx", "optimum", LIMITS)
    finally:
        (tmp_path / "config.json").rename(graph.origin.folder / "config.json")

"""The exported tower against transformers' own, for both families, on ONNX Runtime."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from builder.arr_coc.export.vision import export_vision
from builder.arr_coc.reference import Reference
from builder.arr_coc.source import load_checkpoint
from builder.spec.models import Spec
from examples.tiny.make_checkpoint import make_checkpoint

FAMILIES = ("qwen2_vl", "qwen3_vl")
GRID = {"rows": 4, "cols": 6}
CELLS = 24
CONTRIB = "com.microsoft"


@cache
def checkpoint(family: str) -> Path:
    folder = Path(mkdtemp()) / family
    make_checkpoint(folder, family=family)
    return folder


@cache
def reference(family: str, prune: str = "after_vision", kept: int = 7) -> Reference:
    spec = Spec.model_validate(
        {
            "name": "tower",
            "checkpoint": {"path": str(checkpoint(family))},
            "grid": GRID,
            "kept_tokens": kept,
            "prune": prune,
        }
    )
    return Reference(spec, load_checkpoint(spec.checkpoint, Path("/")))


@cache
def graph(family: str, prune: str = "after_vision", kept: int = 7, target: str = "cpu") -> Path:
    wanted = reference(family, prune, kept)
    spec = wanted.spec.model_copy(update={"target": target})
    stages = spec.stages.model_copy(
        update={"vision": spec.stages.vision.model_copy(update={"precision": "fp32"})}
    )
    path = Path(mkdtemp()) / "model.onnx"
    export_vision(wanted.source, spec.model_copy(update={"stages": stages}), path)
    return path


def pictures(family: str, count: int) -> np.ndarray:
    cell = reference(family).source.facts.cell_size
    shape = (count, GRID["rows"] * cell, GRID["cols"] * cell, 3)
    return np.random.default_rng(count).integers(0, 256, shape, dtype=np.uint8)


def run(path: Path, pixels: np.ndarray, kept: np.ndarray | None = None) -> list[np.ndarray]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {"pixels": pixels} if kept is None else {"pixels": pixels, "kept_indices": kept}
    return session.run(None, feeds)


def stock(family: str, pixels: np.ndarray, kept: np.ndarray | None = None) -> list[np.ndarray]:
    """Embeddings and, for Qwen3-VL, DeepStack features by transformers' own forward."""
    seen = [
        reference(family).see(
            torch.from_numpy(picture), None if kept is None else torch.from_numpy(kept[row])
        )
        for row, picture in enumerate(pixels)
    ]
    features = [layers.numpy() for _, layers in seen if layers is not None]
    embeds = np.stack([embeds.numpy() for embeds, _ in seen])
    return [embeds, np.stack(features)] if features else [embeds]


def assert_same(got: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    assert [array.shape for array in got] == [array.shape for array in wanted]
    for a, b in zip(got, wanted, strict=True):
        norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        assert ((a * b).sum(axis=-1) / norms).min() > 0.999999
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-3 * np.abs(b).max())


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("family", FAMILIES)
def test_whole_picture(family: str, batch: int, target: str) -> None:
    pixels = pictures(family, batch)
    assert_same(run(graph(family, target=target), pixels), stock(family, pixels))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_kept_cells_alone(family: str, batch: int) -> None:
    """Each picture of a batch keeps its own cells; the order of the indices changes nothing."""
    pixels = pictures(family, batch)
    random = np.random.default_rng(0)
    kept = np.stack([random.permutation(CELLS)[:7] for _ in range(batch)]).astype(np.int32)
    got = run(graph(family, "before_vision"), pixels, kept)
    assert_same(got, stock(family, pixels, kept))
    for a, b in zip(got, run(graph(family, "before_vision"), pixels, kept[:, ::-1]), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_cells_kept_is_the_whole_picture(family: str) -> None:
    pixels = pictures(family, 2)
    random = np.random.default_rng(1)
    kept = np.stack([random.permutation(CELLS) for _ in range(2)]).astype(np.int32)
    got = run(graph(family, "before_vision", CELLS), pixels, kept)
    whole = run(graph(family), pixels)
    for a, b in zip(got, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_kept_cell_does_not_see_the_others(family: str) -> None:
    pixels = pictures(family, 1)
    kept = np.arange(7, dtype=np.int32)[None]  # the first row and the start of the second
    changed = pixels.copy()
    changed[:, pixels.shape[1] // 2 :] = 0
    before, after = (run(graph(family, "before_vision"), p, kept) for p in (pixels, changed))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("family", FAMILIES)
def test_operators_fit_the_target(family: str) -> None:
    """Fused attention for ONNX Runtime, plain ONNX for TensorRT."""
    fused = onnx.load(graph(family)).graph.node
    depth = len(reference(family).source.visual.blocks)
    assert sum(node.op_type == "MultiHeadAttention" for node in fused) == depth
    plain = onnx.load(graph(family, target="tensorrt")).graph.node
    assert not [node.op_type for node in plain if node.domain == CONTRIB]

"""The exported relevance graph against the modules it folds, on ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch.export import Dim

from builder.arr_coc.modules.folded import FoldedRelevance
from builder.arr_coc.modules.relevance import Relevance, RelevanceConfig
from builder.export.onnx_file import export_module
from builder.spec.releases import onnx_limits

CELL, VOCABULARY, LENGTH = 8, 300, 12


class Case:
    """Random modules for one grid, plain and as a session."""

    def __init__(self, folder: Path, grid: tuple[int, int], kept: int, integer: bool) -> None:
        self.grid, self.kept = grid, kept
        config = RelevanceConfig(query_dim=48)
        self.relevance = Relevance.untrained(config, seed=3).double()
        self.table = torch.randn(VOCABULARY, 48, generator=torch.Generator().manual_seed(1))
        folded = FoldedRelevance(self.relevance, self.table, grid, CELL, kept, integer=integer)
        batch = Dim("batch", min=1, max=64)
        export_module(
            folded.eval(),
            (
                torch.zeros((3, grid[0] * CELL, grid[1] * CELL, 3), dtype=torch.uint8),
                torch.zeros((3, LENGTH), dtype=torch.int32),
                torch.full((3, 1), 2, dtype=torch.int32),
            ),
            folder / "model.onnx",
            input_names=["pixels", "query_ids", "query_length"],
            output_names=["kept_indices", "relevance_map"],
            dynamic_shapes=({0: batch}, {0: batch}, {0: batch}),
            limits=onnx_limits("24.10"),
        )
        self.session = ort.InferenceSession(
            folder / "model.onnx", providers=["CPUExecutionProvider"]
        )

    def feeds(self, batch: int, seed: int) -> dict[str, np.ndarray]:
        random = np.random.default_rng(seed)
        shape = (batch, self.grid[0] * CELL, self.grid[1] * CELL, 3)
        return {
            "pixels": random.integers(0, 256, shape, dtype=np.uint8),
            "query_ids": random.integers(0, VOCABULARY, (batch, LENGTH), dtype=np.int32),
            "query_length": random.integers(1, LENGTH + 1, (batch, 1), dtype=np.int32),
        }

    def run(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        return self.session.run(["kept_indices", "relevance_map"], feeds)

    def plain(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        tensors = [torch.from_numpy(array) for array in feeds.values()]
        with torch.no_grad():
            outputs = self.relevance(*tensors, self.table, self.grid, self.kept)
        return [output.numpy() for output in outputs]


@pytest.fixture(
    scope="module",
    params=[((6, 9), 20, True), ((9, 6), 54, False), ((1, 5), 3, True)],
    ids=["wide", "tall-float", "one-row"],
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("relevance"), *request.param)


@pytest.mark.parametrize("batch", [1, 5])
def test_same_indices_and_map(case: Case, batch: int) -> None:
    for seed in range(10):
        feeds = case.feeds(batch, seed)
        for got, wanted in zip(case.run(feeds), case.plain(feeds), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-7)


@pytest.mark.parametrize("value", [0, 1, 77, 255])
def test_flat_pictures(case: Case, value: int) -> None:
    """No edge, no contrast: every division by a maximum of zero is at stake."""
    feeds = case.feeds(1, seed=0)
    feeds["pixels"][:] = value
    kept, relevance = case.run(feeds)
    wanted_kept, wanted = case.plain(feeds)
    np.testing.assert_array_equal(kept, wanted_kept)
    np.testing.assert_allclose(relevance, wanted, rtol=0, atol=1e-7)


def test_padding_and_neighbours_change_nothing(case: Case) -> None:
    feeds = case.feeds(4, seed=5)
    feeds["query_length"][:] = 3
    alone = [case.run({name: array[i : i + 1] for name, array in feeds.items()}) for i in range(4)]
    feeds["query_ids"][:, 3:] = 7
    kept, relevance = case.run(feeds)
    for row in range(4):
        np.testing.assert_array_equal(kept[row], alone[row][0][0])
        np.testing.assert_allclose(relevance[row], alone[row][1][0], rtol=0, atol=1e-12)


def test_a_question_of_no_tokens_is_a_number(case: Case) -> None:
    feeds = case.feeds(1, seed=1)
    feeds["query_length"][:] = 0
    assert np.isfinite(case.run(feeds)[1]).all()

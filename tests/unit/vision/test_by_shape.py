"""Several grids in one ONNX file: the same numbers as a file for each, and nothing stored twice."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from builder.arr_coc.export.by_shape import export_by_shape, merge_by_shape
from builder.arr_coc.export.relevance import export_relevance
from builder.arr_coc.export.vision import export_vision
from builder.arr_coc.source import ArrCoc, load_checkpoint
from builder.errors import ExportError
from builder.spec.models import Spec
from builder.spec.releases import onnx_limits
from examples.tiny.make_checkpoint import make_checkpoint

GRIDS = ((3, 4), (4, 3), (3, 3))
KEPT = 5
LENGTH = 8
STAGES = {"vision": export_vision, "relevance": export_relevance}


def spec_of(grids: tuple[tuple[int, int], ...], prune: str) -> Spec:
    first, *others = ({"rows": rows, "cols": cols} for rows, cols in grids)
    return Spec.model_validate(
        {
            "name": "grids",
            "checkpoint": {"path": "checkpoint"},
            "grid": first,
            "grids": others,
            "kept_tokens": KEPT,
            "prune": prune,
            "limits": {"max_query_tokens": LENGTH},
        }
    )


class Case:
    """One stage of one family, as one file for all grids and as a file for each."""

    def __init__(self, folder: Path, source: ArrCoc, stage: str, prune: str) -> None:
        self.stage, self.pruned, self.cell = stage, prune == "before_vision", source.facts.cell_size
        self.path = folder / "all.onnx"
        self.singles = {}
        for grid in GRIDS:
            self.singles[grid] = folder / f"{grid[0]}x{grid[1]}.onnx"
            STAGES[stage](source, spec_of((grid,), prune), self.singles[grid])
        onnx.save(merge_by_shape(list(self.singles.values()), "pixels"), self.path)

    def feeds(self, grid: tuple[int, int], batch: int) -> dict[str, np.ndarray]:
        random = np.random.default_rng(batch)
        shape = (batch, grid[0] * self.cell, grid[1] * self.cell, 3)
        feeds = {"pixels": random.integers(0, 256, shape, dtype=np.uint8)}
        if self.stage == "relevance":
            feeds["query_ids"] = random.integers(0, 300, (batch, LENGTH), dtype=np.int32)
            feeds["query_length"] = random.integers(1, LENGTH + 1, (batch, 1), dtype=np.int32)
        elif self.pruned:
            rows = [random.permutation(grid[0] * grid[1])[:KEPT] for _ in range(batch)]
            feeds["kept_indices"] = np.stack(rows).astype(np.int32)
        return feeds


@pytest.fixture(
    scope="module",
    params=[
        ("qwen2_vl", "relevance", "after_vision"),
        ("qwen3_vl", "vision", "before_vision"),
    ],
    ids="-".join,
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    family, stage, prune = request.param
    folder = tmp_path_factory.mktemp("by_shape")
    make_checkpoint(folder / "checkpoint", family=family)
    source = load_checkpoint(spec_of(GRIDS, prune).checkpoint, folder)
    return Case(folder, source, stage, prune)


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # refusals are expected
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def test_every_grid_bit_for_bit(case: Case) -> None:
    together = session(case.path)
    for grid in GRIDS:
        alone = session(case.singles[grid])
        for batch in (1, 3):
            feeds = case.feeds(grid, batch)
            for got, wanted in zip(together.run(None, feeds), alone.run(None, feeds), strict=True):
                np.testing.assert_array_equal(got, wanted)


def test_nothing_is_stored_twice(case: Case) -> None:
    model = onnx.load(case.path)
    assert all(node.op_type != "Constant" for node in model.graph.node)
    contents = set()
    for tensor in model.graph.initializer:
        if tensor.name.startswith("by_shape."):  # the few numbers of the choice itself
            continue
        array = numpy_helper.to_array(tensor)
        content = (array.dtype, array.shape, hashlib.sha256(array.tobytes()).digest())
        assert content not in contents
        contents.add(content)


@pytest.mark.parametrize("shape", [(4, 4), (2, 6), (6, 2), (3, 8), (12, 1)])
def test_another_shape_is_refused_by_name(case: Case, shape: tuple[int, int]) -> None:
    """Shapes with the pixels of a grid among them: a reshape would take them without a word."""
    feeds = case.feeds(GRIDS[0], 1)
    sides = (shape[0] * case.cell, shape[1] * case.cell)
    feeds["pixels"] = np.zeros((1, *sides, 3), dtype=np.uint8)
    cell = case.cell
    wanted = f"pixels must be {3 * cell}x{4 * cell}x3 or {4 * cell}x{3 * cell}x3 or "
    with pytest.raises(Exception, match=wanted):
        session(case.path).run(None, feeds)


def write(path: Path, size: int, operator: str, **attributes: int) -> Path:
    """x times a constant of a size."""
    info = helper.make_tensor_value_info
    nodes = [helper.make_node(operator, ["x", "c"], ["y"], **attributes)]
    graph = helper.make_graph(
        nodes,
        "g",
        [info("x", onnx.TensorProto.FLOAT, ["batch", size])],
        [info("y", onnx.TensorProto.FLOAT, ["batch", size])],
        [numpy_helper.from_array(np.full((size, size), 2, dtype=np.float32), "c")],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path


def test_graphs_of_another_structure_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "a.onnx", 2, "MatMul")
    with pytest.raises(ExportError, match=r"operators \(MatMul and Gemm\)"):
        merge_by_shape([first, write(tmp_path / "b.onnx", 3, "Gemm")], "x")
    with pytest.raises(ExportError, match="attributes of Gemm"):
        gemms = [write(tmp_path / f"{i}.onnx", 2 + i, "Gemm", transB=i) for i in range(2)]
        merge_by_shape(gemms, "x")
    with pytest.raises(ExportError, match="of the same shape"):
        merge_by_shape([first, first], "x")
    with pytest.raises(ExportError, match="no input 'z'"):
        merge_by_shape([first, write(tmp_path / "c.onnx", 3, "MatMul")], "z")


def test_weights_beside_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As large towers have them: read from beside each graph, written once beside the merged."""
    monkeypatch.setattr("builder.export.onnx_file.INLINE_BYTES", 0)
    weight = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)

    def export(size: int, path: Path) -> None:
        info = helper.make_tensor_value_info
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["v"]),
            helper.make_node("Add", ["v", "places"], ["y"]),
        ]
        constants = {"w": weight, "places": np.full((size, 32), size, dtype=np.float32)}
        graph = helper.make_graph(
            nodes,
            "g",
            [info("x", onnx.TensorProto.FLOAT, ["batch", size, 32])],
            [info("y", onnx.TensorProto.FLOAT, ["batch", size, 32])],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")

    path = tmp_path / "model.onnx"
    export_by_shape([8, 16, 24], export, path, "x", onnx_limits("24.10"))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    tables = sum(size * 32 * 4 for size in (8, 16, 24))
    assert (tmp_path / "model.onnx.data").stat().st_size < 1.2 * (weight.nbytes + tables)
    runner = session(path)
    for size in (8, 16, 24):
        x = np.ones((2, size, 32), dtype=np.float32)
        wanted = x @ weight + size
        np.testing.assert_allclose(runner.run(None, {"x": x})[0], wanted, rtol=1e-5, atol=1e-5)


def test_eight_kinds_and_one_kind(tmp_path: Path) -> None:
    limits = onnx_limits("24.10")

    def export(size: int, path: Path) -> None:
        write(path, size, "MatMul")

    path = tmp_path / "model.onnx"
    export_by_shape(range(1, 9), export, path, "x", limits)
    runner = session(path)
    for size in range(1, 9):
        x = np.ones((2, size), dtype=np.float32)
        np.testing.assert_array_equal(runner.run(None, {"x": x})[0], x * 2 * size)
    export_by_shape([3], export, path, "x", limits)
    assert [node.op_type for node in onnx.load(path).graph.node] == ["MatMul"]
    assert list(tmp_path.iterdir()) == [path]

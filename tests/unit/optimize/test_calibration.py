import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.errors import BuilderError
from builder.optimize import integers, rewrite
from builder.optimize.calibration import PART, calibrate
from builder.optimize.fusion import fuse
from builder.optimize.products import products
from builder.spec.precision import CalibrationMethod
from tests.unit.optimize.conftest import LIMITS, Exported


@pytest.fixture
def graph(bert: Exported, tmp_path: Path) -> Path:
    path = tmp_path / "fused.onnx"
    rewrite.save(fuse(bert.path, "tuned", LIMITS, tmp_path), path)
    return path


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_each_method_gives_a_graph_that_agrees(
    bert: Exported, graph: Path, records: Any, tmp_path: Path, method: CalibrationMethod
) -> None:
    ranges = calibrate(graph, records, tmp_path, method=method, percentile=99.9)
    model = rewrite.load(graph)
    assert {str(p.x.name) for p in products(model)} == set(ranges)
    integers.quantize_static(model, ranges)
    path = tmp_path / "static.onnx"
    rewrite.save(model, path)
    assert bert.error(path)[1] > 0.99
    kinds = {node.op_type for node in rewrite.load(path).graph}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_methods_cut_outliers_and_minmax_does_not(
    graph: Path, records: Any, tmp_path: Path
) -> None:
    whole = calibrate(graph, records, tmp_path)
    cut = calibrate(graph, records, tmp_path, method="percentile", percentile=98.0)
    assert set(whole) == set(cut)
    for name, (low, high) in whole.items():
        assert low <= cut[name][0] and cut[name][1] <= high
    assert any(cut[name][1] < 0.9 * whole[name][1] for name in whole)


def test_samples_bound_the_data(graph: Path, records: Any, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    calibrate(graph, iter(records), tmp_path, samples=3, told=lambda *pair: seen.append(pair))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_no_data_is_refused(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(BuilderError, match="no samples"):
        calibrate(graph, [], tmp_path)


def _killed(graph: Path, records: Any, folder: Path, state: Path, method: Any) -> None:
    def told(done: int, total: int) -> None:
        if done == PART + 5:
            os.kill(os.getpid(), signal.SIGKILL)

    calibrate(graph, records, folder, method=method, state=state, told=told)


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_a_killed_run_goes_on_where_its_last_part_ended(
    graph: Path, records: Any, tmp_path: Path, method: CalibrationMethod
) -> None:
    state = tmp_path / "state" / "ranges.npz"
    (tmp_path / "killed").mkdir()
    context = multiprocessing.get_context("spawn")
    process = context.Process(
        target=_killed, args=(graph, records, tmp_path / "killed", state, method)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    seen: list[int] = []
    resumed = calibrate(
        graph, records, tmp_path, method=method, state=state,
        told=lambda done, total: seen.append(done),
    )  # fmt: skip
    assert seen[0] == PART and seen[-1] == len(records)
    assert resumed == calibrate(graph, records, tmp_path, method=method)


def test_other_data_does_not_take_up_the_state(graph: Path, records: Any, tmp_path: Path) -> None:
    state = tmp_path / "ranges.npz"
    calibrate(graph, records, tmp_path, state=state)
    seen: list[int] = []
    calibrate(
        graph, records[:-1], tmp_path, state=state, told=lambda done, total: seen.append(done)
    )
    assert seen[0] == 0


def test_a_damaged_state_is_not_taken_up(graph: Path, records: Any, tmp_path: Path) -> None:
    state = tmp_path / "ranges.npz"
    state.write_bytes(b"PK\x03\x04 half of it")
    found = calibrate(graph, records, tmp_path, state=state)
    assert found == calibrate(graph, records, tmp_path)


def test_zero_is_exact() -> None:
    for bounds in ((-1.0, 3.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0)):
        scale, zero = integers.activation_parameters(bounds)
        assert 0 <= int(zero) <= 255 and float(scale) > 0
        covered = (-int(zero) * float(scale), (255 - int(zero)) * float(scale))
        assert covered[0] <= min(bounds[0], 0) + float(scale)
        assert covered[1] >= max(bounds[1], 0) - float(scale)
        assert np.float32(scale) == scale

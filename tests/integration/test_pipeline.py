"""The whole pipeline on a real tritonserver against the plain torch reference."""

import io
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tritonclient.grpc import InferInput

from builder.arr_coc.reference import Reference, ReferenceAnswer
from builder.arr_coc.source import load_checkpoint
from builder.spec.load import load_spec
from clients import Answer, AnswerError, GenerationOptions, Question, answer, stream

ROOT = Path(__file__).parents[2]
PHOTOS = ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg", "camera.png")
QUESTIONS = (
    "What is in the picture?",
    "How many are there?",
    "What colour is the largest thing, and where does it stand?",
    "Wie heißt das? 🐈 是什么?",
)
PAIRS = list(itertools.product(PHOTOS, QUESTIONS))
TOKENS = 24


def photo(name: str) -> bytes:
    return (files("skimage") / "data" / name).read_bytes()


@pytest.fixture(scope="module")
def reference() -> Reference:
    spec = load_spec(ROOT / "specs" / "arr_coc.yaml")
    return Reference(spec, load_checkpoint(spec.checkpoint, ROOT / "specs", spec.seed))


@pytest.fixture(scope="module")
def wanted(reference: Reference) -> list[ReferenceAnswer]:
    return [reference.answer(photo(name), question, TOKENS) for name, question in PAIRS]


def ask(url: str, image: bytes, text: str, **options: Any) -> Answer:
    return answer(url, Question(image, text, GenerationOptions(**options)), timeout=120)


def assert_same(got: Answer, reference: ReferenceAnswer) -> None:
    assert list(got.token_ids) == reference.token_ids
    assert got.text == reference.text
    assert got.kept_indices.tolist() == reference.kept_indices.tolist()
    assert got.usage.prompt_tokens == reference.prompt_tokens
    assert got.usage.completion_tokens == len(reference.token_ids)
    np.testing.assert_allclose(got.relevance_map, reference.relevance, atol=1e-6)


def test_one_at_a_time_equals_the_reference(arr_coc_server: Any, wanted: Any) -> None:
    assert len(PAIRS) >= 20
    assert len({tuple(w.token_ids) for w in wanted}) > 15  # the answers do differ
    for (name, question), reference in zip(PAIRS, wanted, strict=True):
        assert_same(ask(arr_coc_server.url, photo(name), question, max_tokens=TOKENS), reference)


def test_eight_at_once_equal_the_reference(arr_coc_server: Any, wanted: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(
            lambda pair: ask(arr_coc_server.url, photo(pair[0]), pair[1], max_tokens=TOKENS), PAIRS
        )
        for got, reference in zip(answers, wanted, strict=True):
            assert_same(got, reference)


def test_requests_were_really_batched(arr_coc_server: Any) -> None:
    """Of the eight at once some shared a run: more requests than executions."""
    client = arr_coc_server.server.client
    stats = client.get_inference_statistics("vision", as_json=True)["model_stats"][0]
    assert int(stats["execution_count"]) < int(stats["inference_count"])


def test_a_result_does_not_depend_on_its_batch(arr_coc_server: Any, wanted: Any) -> None:
    """Each pair among sampled, shorter, failing and differently pruned neighbours."""
    url = arr_coc_server.url

    def neighbour(i: int) -> None:
        options = [
            {"temperature": 1.5, "seed": i, "max_tokens": 40},
            {"visual_tokens": 1 + i % 50, "max_tokens": 3},
            {"max_tokens": -1},
        ][i % 3]
        try:
            ask(url, photo(PHOTOS[i % 5]), f"neighbour {i}", **options)
        except AnswerError:
            assert options == {"max_tokens": -1}

    with ThreadPoolExecutor(8) as pool:
        noise = [pool.submit(neighbour, i) for i in range(60)]
        for (name, question), reference in zip(PAIRS[:8], wanted, strict=False):
            assert_same(ask(url, photo(name), question, max_tokens=TOKENS), reference)
        for future in noise:
            future.result()


def test_relevance_alone_in_a_batch_of_eight(arr_coc_server: Any, reference: Reference) -> None:
    """The relevance model called directly with eight pictures in one request."""
    pixels = np.stack([reference.pixels(photo(name)) for name, _ in PAIRS[:8]])
    prompts = [reference.prompts.encode(question.encode()) for _, question in PAIRS[:8]]
    queries = [reference.padded_query(prompt) for prompt in prompts]
    tensors = {
        "pixels": (pixels, "UINT8"),
        "query_ids": (np.concatenate([q[0].numpy() for q in queries]), "INT32"),
        "query_length": (np.concatenate([q[1].numpy() for q in queries]), "INT32"),
    }
    inputs = []
    for name, (array, dtype) in tensors.items():
        inputs.append(InferInput(name, list(array.shape), dtype))
        inputs[-1].set_data_from_numpy(array)
    together = arr_coc_server.server.client.infer("relevance", inputs).as_numpy("kept_indices")
    for row, (name, question) in enumerate(PAIRS[:8]):
        alone = reference.answer(photo(name), question, max_tokens=1)
        assert together[row].tolist() == alone.kept_indices.tolist()


@pytest.mark.parametrize("visual_tokens", [1, 7, 50])
def test_fewer_visual_tokens(arr_coc_server: Any, reference: Any, visual_tokens: int) -> None:
    got = ask(
        arr_coc_server.url, photo("coffee.png"), "What?", max_tokens=8, visual_tokens=visual_tokens
    )
    assert_same(got, reference.answer(photo("coffee.png"), "What?", 8, visual_tokens))


def test_sampling_depends_on_the_seed_alone(arr_coc_server: Any) -> None:
    def sample(seed: int) -> tuple[int, ...]:
        got = ask(
            arr_coc_server.url,
            photo("coffee.png"),
            "Go on.",
            max_tokens=20,
            temperature=1.2,
            top_p=0.9,
            top_k=50,
            seed=seed,
        )
        return tuple(got.token_ids)

    alone = [sample(seed) for seed in range(4)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(sample, [0, 1, 2, 3] * 2)) == alone * 2
    assert len(set(alone)) > 1


def test_stop_strings_end_the_text(arr_coc_server: Any, wanted: Any) -> None:
    text = wanted[0].text
    stop = text[len(text) // 2 :][:3]
    got = ask(arr_coc_server.url, photo(PAIRS[0][0]), PAIRS[0][1], max_tokens=TOKENS, stop=[stop])
    assert got.text == text[: text.index(stop)]
    assert got.finish_reason == "stop"


def test_the_text_is_streamed(arr_coc_server: Any) -> None:
    question = Question(photo("chelsea.png"), "Tell me.", GenerationOptions(max_tokens=30))
    chunks = list(stream(arr_coc_server.url, question, timeout=60))
    assert len(chunks) > 3
    assert [chunk.summary is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].summary is not None
    assert chunks[-1].summary.finish_reason in {"stop", "length"}


def huge_picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    return buffer.getvalue()


BAD = {
    "a truncated JPEG": (photo("rocket.jpg")[:4000], "What?", {}, "damaged"),
    "a text file": (b"just some text\n" * 50, "What?", {}, "not a readable picture"),
    "no bytes": (b"", "What?", {}, "IMAGE is empty"),
    "a huge picture": (huge_picture(), "What?", {}, "20000 x 20000 pixels"),
    "an empty question": (photo("coffee.png"), "", {}, "PROMPT is empty"),
    "a blank question": (photo("coffee.png"), " \n\t", {}, "PROMPT is empty"),
    "10,000 words": (photo("coffee.png"), "word " * 10_000, {}, "at most 128 tokens"),
    "MAX_TOKENS -1": (photo("coffee.png"), "What?", {"max_tokens": -1}, "MAX_TOKENS is -1"),
    "MAX_TOKENS 0": (photo("coffee.png"), "What?", {"max_tokens": 0}, "MAX_TOKENS is 0"),
    "too many tokens": (photo("coffee.png"), "What?", {"max_tokens": 10**6}, "MAX_TOKENS"),
    "VISUAL_TOKENS 51": (photo("coffee.png"), "What?", {"visual_tokens": 51}, "VISUAL_TOKENS"),
    "TOP_P 2": (photo("coffee.png"), "What?", {"top_p": 2.0}, "TOP_P"),
    "TEMPERATURE nan": (photo("coffee.png"), "?", {"temperature": float("nan")}, "TEMPERATURE"),
    "an empty stop string": (photo("coffee.png"), "What?", {"stop": [""]}, "STOP"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_a_sentence_and_the_next_request_works(
    arr_coc_server: Any, wanted: Any, case: str
) -> None:
    image, text, options, sentence = BAD[case]
    with pytest.raises(AnswerError, match=sentence) as caught:
        ask(arr_coc_server.url, image, text, **options)
    assert caught.value.status == "INVALID_ARGUMENT"
    got = ask(arr_coc_server.url, photo(PAIRS[0][0]), PAIRS[0][1], max_tokens=TOKENS)
    assert_same(got, wanted[0])


def test_invalid_utf8_is_refused(arr_coc_server: Any) -> None:
    """Below the clients, which send text: raw bytes to the preprocess model."""
    tensors = {"IMAGE": photo("coffee.png"), "PROMPT": b"caf\xe9 \xff"}
    inputs = []
    for name, value in tensors.items():
        inputs.append(InferInput(name, [1, 1], "BYTES"))
        inputs[-1].set_data_from_numpy(np.array([[value]], dtype=np.object_))
    with pytest.raises(Exception, match="PROMPT is not valid UTF-8") as caught:
        arr_coc_server.server.client.infer("preprocess", inputs)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"  # type: ignore[attr-defined]


def test_one_bad_request_does_not_fail_its_batch(arr_coc_server: Any, wanted: Any) -> None:
    def one(i: int) -> Answer | str:
        image = b"bad" if i % 2 else photo(PAIRS[0][0])
        try:
            return ask(arr_coc_server.url, image, PAIRS[0][1], max_tokens=TOKENS)
        except AnswerError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        for i, got in enumerate(pool.map(one, range(16))):
            if i % 2:
                assert isinstance(got, str) and "not a readable picture" in got
            else:
                assert isinstance(got, Answer)
                assert_same(got, wanted[0])


def test_a_build_killed_in_the_middle_leaves_the_repository_serving(
    arr_coc_server: Any, wanted: Any
) -> None:
    repository: Path = arr_coc_server.repository

    def snapshot() -> dict[str, bytes]:
        return {
            str(p.relative_to(repository)): p.read_bytes()
            for p in repository.rglob("*")
            if p.is_file()
        }

    before = snapshot()
    command = [sys.executable, "-m", "builder", "build", str(arr_coc_server.spec_path)]
    build = subprocess.Popen(
        [*command, "--output", str(repository)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    staging = repository.parent
    deadline = time.monotonic() + 120
    while not list(staging.glob(".model_repository.staging-*/vision/1/model.onnx")):
        assert build.poll() is None, build.stdout.read() if build.stdout else ""
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(build.pid, signal.SIGKILL)
    build.wait(30)
    assert list(staging.glob(".model_repository.staging-*"))  # it was in the middle
    assert snapshot() == before
    assert_same(
        ask(arr_coc_server.url, photo(PAIRS[0][0]), PAIRS[0][1], max_tokens=TOKENS), wanted[0]
    )
    for left in staging.glob(".model_repository.staging-*"):
        shutil.rmtree(left)

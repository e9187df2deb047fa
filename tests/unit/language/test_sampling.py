"""Repetition penalty, log-probabilities and drafts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import RepetitionPenaltyLogitsProcessor

from builder.runtime.models.language.drafts import prompt_lookup
from builder.runtime.models.language.options import GenerationOptions, OptionError
from builder.runtime.models.language.sampler import Sampler


@given(seed=st.integers(0, 10**6), penalty=st.floats(0.2, 4.0))
@settings(max_examples=50, deadline=None)
def test_the_penalty_is_that_of_transformers(seed: int, penalty: float) -> None:
    rng = np.random.default_rng(seed)
    prompt = rng.integers(0, 20, 8)
    sampler = Sampler(GenerationOptions(8, 4, repetition_penalty=penalty, logprobs=True), prompt)
    processor = RepetitionPenaltyLogitsProcessor(penalty)
    history = list(prompt)
    for _ in range(10):
        logits = rng.normal(size=20).astype(np.float32)
        scores = processor(torch.tensor([history]), torch.from_numpy(logits)[None].clone())[0]
        token = sampler(logits)
        assert token == int(scores.argmax())
        assert sampler.logprob == pytest.approx(float(scores.log_softmax(-1)[token]), abs=1e-5)
        history.append(token)


@pytest.mark.parametrize(
    "wrong",
    [{"repetition_penalty": 0.0}, {"repetition_penalty": float("nan")}, {"timeout_ms": -1}],
)
def test_options_out_of_range_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong)).upper()):
        GenerationOptions(8, 4, **wrong).check(8, 4)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 6))
def test_a_draft_is_what_followed_before(history: list[int], count: int) -> None:
    draft = prompt_lookup(np.array(history), count)
    assert len(draft) <= count
    if not draft:
        assert history[-1] not in history[:-1]
        return
    text = "".join(map(str, history))
    assert text[-1] + "".join(map(str, draft)) in text


def test_the_longest_and_newest_match_wins() -> None:
    assert prompt_lookup(np.array([1, 2, 3, 9, 2, 3, 8, 7, 2, 3]), 2) == [8, 7]
    assert prompt_lookup(np.array([1, 2, 3, 9, 2, 3, 8, 1, 2, 3]), 3) == [9, 2, 3]

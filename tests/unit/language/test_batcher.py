"""The engine over a real decoder: nothing that shares batch, cache or step changes a token."""

import random
import re
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from builder.arr_coc.reference import Reference
from builder.runtime.models.language.batcher import (
    EXTRA_ROWS,
    BatcherSettings,
    BatcherStats,
    BusyError,
    ContinuousBatcher,
)
from builder.runtime.models.language.decoder import Decoder
from builder.runtime.models.language.generation import Generation
from builder.runtime.models.language.session import SessionSettings

from .conftest import Answer, Request, StartBatcher, ask

REQUESTS = [Request(seed, max_tokens=4 + 5 * (seed % 5)) for seed in range(12)]


@pytest.fixture(scope="module")
def wanted(reference: Reference) -> list[list[int]]:
    answers = [request.expected(reference) for request in REQUESTS]
    assert len({tuple(answer) for answer in answers}) == len(answers)
    return answers


@pytest.mark.parametrize(
    ("slots", "settings"),
    [
        (1, {}),
        (4, {}),
        (16, {}),
        (4, {"prefill_chunk": 1}),
        (4, {"prefill_chunk": 7}),
        (1, {"draft_tokens": 4}),
        (3, {"draft_tokens": 3, "prefill_chunk": 5}),
        (8, {"kv_tokens": 192}),
        (8, {"kv_tokens": 256, "prefill_chunk": 9, "draft_tokens": 2}),
    ],
)
def test_tokens_are_those_of_transformers(
    start_batcher: StartBatcher,
    reference: Reference,
    wanted: list[list[int]],
    slots: int,
    settings: dict[str, int],
) -> None:
    engine = start_batcher(slots, **settings)
    got = ask(engine, reference, REQUESTS)
    assert [answer.tokens for answer in got] == wanted


def test_the_newest_gives_its_blocks_back_and_starts_again(
    start_batcher: StartBatcher, reference: Reference
) -> None:
    """Prompts fit together, answers do not: some are computed twice and none differs."""
    requests = [Request(seed, max_tokens=100) for seed in range(4)]
    roomy = ask(start_batcher(4), reference, requests)
    engine = start_batcher(4, kv_tokens=192)
    assert [a.tokens for a in ask(engine, reference, requests)] == [a.tokens for a in roomy]
    assert engine.stats.preempted > 0


def test_drafts_are_verified_not_believed(
    start_batcher: StartBatcher, reference: Reference
) -> None:
    """A long answer of a tiny model repeats itself: some guesses are right, and some are not."""
    requests = [Request(seed, max_tokens=120) for seed in range(3)]
    plain = ask(start_batcher(1), reference, requests)
    engine = start_batcher(1, draft_tokens=4)
    drafted = ask(engine, reference, requests)
    assert [a.tokens for a in drafted] == [a.tokens for a in plain]
    assert 0 < engine.stats.accepted < engine.stats.drafted
    assert engine.stats.steps < sum(len(a.tokens) for a in plain) - len(requests)
    summaries = [a.summary for a in drafted if a.summary is not None]
    assert sum(s.accepted for s in summaries) == engine.stats.accepted
    sampled = [
        ask(e, reference, requests, temperature=0.7, seed=3)
        for e in (start_batcher(1), start_batcher(1, draft_tokens=4))
    ]
    assert [a.tokens for a in sampled[0]] == [a.tokens for a in sampled[1]]


def test_a_seed_does_not_depend_on_batch_mates(
    start_batcher: StartBatcher, reference: Reference
) -> None:
    request = Request(1, max_tokens=20)
    options = {"temperature": 1.3, "top_k": 40, "seed": 7}
    alone = ask(start_batcher(1), reference, [request], **options)[0]
    engine = start_batcher(6)
    noise = [Answer() for _ in range(5)]
    for i, sink in enumerate(noise):
        engine.submit(Request(50 + i, 3 + 6 * i).generation(reference, sink, temperature=2.0))
    crowded = ask(engine, reference, [request], **options)[0]
    assert crowded.tokens == alone.tokens
    assert crowded.tokens != ask(engine, reference, [request], temperature=1.3, seed=8)[0].tokens


def test_the_opening_is_computed_once(start_batcher: StartBatcher, reference: Reference) -> None:
    engine = start_batcher(2)
    answers = [ask(engine, reference, [Request(seed)])[0] for seed in (1, 2, 3)]
    shared = [a.summary.shared_tokens for a in answers if a.summary is not None]
    assert shared == [0, 8, 8]


def test_log_probabilities_are_those_of_the_logits(
    start_batcher: StartBatcher, reference: Reference
) -> None:
    request = Request(4, max_tokens=6)
    answer = ask(start_batcher(1), reference, [request], logprobs=True)[0]
    assert len(answer.logprobs) == len(answer.tokens)
    _, embeds, _ = request.parts(reference)
    sequence = request.generation(reference, Answer()).sequence
    vectors = reference.source.embeddings[torch.from_numpy(sequence.input_ids)].clone()
    vectors[torch.from_numpy(sequence.visual_mask)] = torch.from_numpy(embeds)
    with torch.no_grad():
        output = reference.source.text_model(
            inputs_embeds=vectors[None],
            position_ids=torch.from_numpy(sequence.position_ids)[:, None],
        )
        logits = reference.source.model.lm_head(output.last_hidden_state[0, -1])
    expected = float(torch.log_softmax(logits.double(), -1)[answer.tokens[0]])
    assert answer.logprobs[0] == pytest.approx(expected, abs=1e-4)


def test_a_client_that_leaves_frees_its_slot_within_a_step(
    start_batcher: StartBatcher, reference: Reference
) -> None:
    engine = start_batcher(1)
    leaving, next_one = Answer(leave_after=3), Answer()
    engine.submit(Request(1, max_tokens=150).generation(reference, leaving))
    engine.submit(Request(2, max_tokens=3).generation(reference, next_one))
    assert next_one.done.wait(60)
    assert leaving.summary is not None
    assert leaving.summary.reason == "cancelled"
    assert 3 <= leaving.summary.completion_tokens <= 5
    assert engine.stats.cancelled == 1


def test_a_client_that_leaves_the_line_is_not_answered(
    start_batcher: StartBatcher, reference: Reference
) -> None:
    engine = start_batcher(1)
    busy, waiting = Answer(), Answer(leave_after=0)
    engine.submit(Request(1, max_tokens=150).generation(reference, busy))
    engine.submit(Request(2).generation(reference, waiting))
    assert waiting.done.wait(60)
    assert waiting.tokens == []
    assert waiting.summary is not None
    assert waiting.summary.reason == "cancelled"
    assert busy.done.wait(60)
    assert len(busy.tokens) == 150


def test_a_deadline_ends_an_answer(start_batcher: StartBatcher, reference: Reference) -> None:
    engine = start_batcher(1)
    answer = Answer()
    generation = Request(1, max_tokens=150).generation(reference, answer, timeout_ms=1000)
    generation.arrived = time.monotonic() - 0.99
    engine.submit(generation)
    assert answer.done.wait(60)
    assert answer.summary is not None
    assert answer.summary.reason == "timeout"
    assert len(answer.tokens) < 150


def test_a_sink_that_breaks_ends_its_request_alone(
    start_batcher: StartBatcher, reference: Reference, wanted: list[list[int]]
) -> None:
    engine = start_batcher(4)
    broken = Answer(fail_after=2)
    engine.submit(Request(99, max_tokens=50).generation(reference, broken))
    got = ask(engine, reference, REQUESTS[:4])
    assert [a.tokens for a in got] == wanted[:4]
    assert broken.error


def test_the_line_is_bounded(start_batcher: StartBatcher, reference: Reference) -> None:
    engine = start_batcher(1, max_waiting=2)
    sinks = [Answer() for _ in range(8)]
    refused = 0
    for sink in sinks:
        try:
            engine.submit(Request(1, max_tokens=60).generation(reference, sink))
        except BusyError as busy:
            assert re.search(r"full \(2 requests wait\); try again in about \d+ s", str(busy))
            refused += 1
            sink.done.set()
    assert refused >= 4
    for sink in sinks:
        assert sink.done.wait(60)
    assert sum(len(sink.tokens) == 60 for sink in sinks) == 8 - refused


def test_an_engine_that_stops_is_not_ready(artifact: Path) -> None:
    decoder = Decoder(artifact, 1 + EXTRA_ROWS, 192, SessionSettings(1))
    engine = ContinuousBatcher(decoder, [], BatcherSettings(1), print)
    assert engine.alive
    engine.stop()
    assert not engine.alive


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_whose_thread_died_is_not_ready(artifact: Path, reference: Reference) -> None:
    def broken(stats: BatcherStats) -> None:
        raise RuntimeError("no metrics")

    decoder = Decoder(artifact, 1 + EXTRA_ROWS, 192, SessionSettings(1))
    engine = ContinuousBatcher(decoder, [], BatcherSettings(1), print, broken)
    assert engine.alive
    engine.submit(Request(1).generation(reference, Answer()))
    deadline = time.monotonic() + 60
    while engine.alive:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_cache_too_small_for_one_request_is_refused(artifact: Path) -> None:
    decoder = Decoder(artifact, 4, 192, SessionSettings(1), total_tokens=64)
    with pytest.raises(ValueError, match="one request of full length"):
        ContinuousBatcher(decoder, [], BatcherSettings(2), print)


@pytest.mark.slow
def test_two_thousand_requests_with_random_cancels(
    start_batcher: StartBatcher, reference: Reference
) -> None:
    """Every slot and block comes back, memory stays flat, nothing is lost or mixed up."""
    rng = random.Random(0)
    kinds = [Request(seed, max_tokens=1 + seed * 2) for seed in range(40)]
    wanted = [kind.expected(reference) for kind in kinds]
    engine = start_batcher(8, kv_tokens=512, prefill_chunk=16, draft_tokens=3, max_waiting=64)
    process, memory = psutil.Process(), []
    sinks: list[tuple[int, Answer]] = []
    for number in range(2000):
        kind = rng.randrange(len(kinds))
        sink = Answer(leave_after=rng.randrange(30) if rng.random() < 0.25 else None)
        while True:
            try:
                engine.submit(kinds[kind].generation(reference, sink))
                break
            except BusyError:
                time.sleep(0.01)
        sinks.append((kind, sink))
        if number % 100 == 99:
            memory.append(process.memory_info().rss)
    for _, sink in sinks:
        assert sink.done.wait(120)
    for kind, sink in sinks:
        assert sink.endings == 1
        assert not sink.error
        assert sink.tokens == wanted[kind][: len(sink.tokens)]
        assert sink.summary is not None
        if sink.summary.reason == "length":
            assert len(sink.tokens) == kinds[kind].max_tokens
        else:
            assert sink.summary.reason == "cancelled"
            assert sink.leave_after is not None
            assert sink.leave_after <= len(sink.tokens) <= sink.leave_after + 8
    assert engine.stats.finished == 2000
    assert engine.stats.preempted > 0
    assert engine.stats.cancelled > 200
    # 100 requests fill the allocator's arenas; what comes later must not add up.
    assert np.median(memory[-5:]) - np.median(memory[2:7]) < 32e6
    print(f"memory MB: {[round(m / 1e6) for m in memory]}; {engine.stats}")


def test_generations_are_told_apart_by_identity(reference: Reference) -> None:
    """The engine looks for them in lists; their arrays can't be compared."""
    one, two = (Request(1).generation(reference, Answer()) for _ in range(2))
    assert isinstance(one, Generation)
    assert one != two

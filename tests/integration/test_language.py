"""The language stage on a real server: cancellation, options, statistics, metrics, quantization."""

import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferInput

from tests.integration._language import LONG, Metrics, Stream, chatty, metrics_of, tensor, wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture
def stream(arr_coc_server: Any) -> Iterator[Stream]:
    found = Stream(arr_coc_server.url)
    yield found
    found.leave()


@pytest.fixture
def metrics(arr_coc_server: Any) -> Metrics:
    return metrics_of(arr_coc_server)


@pytest.mark.slow
def test_a_cancel_with_a_watch_reaches_through_the_ensemble(
    cancelled_server: Any,
) -> None:
    metrics, text = metrics_of(cancelled_server), chatty(cancelled_server.url)
    before = metrics()
    stream = Stream(cancelled_server.url)
    stream.ask(str(uuid.uuid4()), watch=True, text=text, **LONG)
    stream.next()
    stream.leave(cancel=True)
    after = wait_for(
        metrics, lambda now: now["language_finished_total"] > before["language_finished_total"]
    )
    assert after["language_cancelled_total"] == before["language_cancelled_total"] + 1
    assert after["language_tokens_total"] - before["language_tokens_total"] < 256
    assert after["language_running"] == 0


CLIENT = """
import sys, time, uuid
from tests.integration._language import LONG, Stream
stream = Stream(sys.argv[1])
for _ in range(8):
    stream.ask(str(uuid.uuid4()), watch=True, text=sys.argv[2], **LONG)
stream.next()
print("first token", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_a_client_that_is_killed_frees_its_slots(cancelled_server: Any) -> None:
    """Eight long answers: some have begun, and none of them goes on."""
    metrics = metrics_of(cancelled_server)
    text = chatty(cancelled_server.url)
    before = metrics()
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, cancelled_server.url, text],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert client.stdout is not None
    assert client.stdout.readline() == b"first token\n"
    client.send_signal(signal.SIGKILL)
    client.wait()
    cancelled = before["language_cancelled_total"]
    after = wait_for(
        metrics,
        lambda now: now["language_cancelled_total"] > cancelled and not now["language_running"],
    )
    assert after["language_tokens_total"] - before["language_tokens_total"] < 8 * 256


def test_a_watched_answer_that_completes_is_whole_and_ends_its_watch(stream: Stream) -> None:
    stream.ask("one", watch=False, MAX_TOKENS=(20, "INT32"))
    plain = [r.as_numpy("TEXT").item() for r in stream.answer()]
    name = str(uuid.uuid4())
    stream.ask(name, watch=True, MAX_TOKENS=(20, "INT32"))
    assert b"".join(r.as_numpy("TEXT").item() for r in stream.answer()) == b"".join(plain)
    # The id is free again: a watch that had stayed open would refuse this one.
    stream.ask(name, watch=True, MAX_TOKENS=(20, "INT32"))
    assert b"".join(r.as_numpy("TEXT").item() for r in stream.answer()) == b"".join(plain)


def test_a_watch_without_an_id_is_refused(stream: Stream) -> None:
    stream.client.async_stream_infer("language", [tensor("WATCH", True, "BOOL")])
    with pytest.raises(Exception, match="INVALID_ARGUMENT: WATCH needs a request id"):
        stream.next()


def test_a_direct_request_without_its_tensors_is_refused(stream: Stream) -> None:
    stream.client.async_stream_infer("language", [tensor("TEMPERATURE", 1.0, "FP32")])
    with pytest.raises(Exception, match="INVALID_ARGUMENT: the input prompt_ids is missing"):
        stream.next()


@pytest.mark.parametrize(("place", "token"), [(0, 10**6), (3, -1)])
def test_a_token_beyond_the_vocabulary_is_refused(stream: Stream, place: int, token: int) -> None:
    ids = np.full((1, 6), 5, np.int32)
    ids[0, place] = token
    config = stream.client.get_model_config("language", as_json=True)["config"]
    inputs = []
    for io in config["input"]:
        if io["name"] not in ("prompt_ids", "image_embeds", "kept_indices", "relevance_map"):
            continue
        dtype = io["data_type"].removeprefix("TYPE_")
        array = np.zeros(
            [1, *(abs(int(dim)) for dim in io["dims"])],
            np.int32 if dtype == "INT32" else np.float32,
        )
        array = ids if io["name"] == "prompt_ids" else array
        inputs.append(InferInput(io["name"], list(array.shape), dtype))
        inputs[-1].set_data_from_numpy(array)
    stream.client.async_stream_infer("language", inputs)
    sentence = rf"INVALID_ARGUMENT: prompt_ids has the token id {token}; the model knows 0 to \d+"
    with pytest.raises(Exception, match=sentence):
        stream.next()


def test_log_probabilities_and_statistics(stream: Stream) -> None:
    stream.ask("", watch=False, MAX_TOKENS=(12, "INT32"), LOGPROBS=(True, "BOOL"))
    results = stream.answer()
    logprobs = np.concatenate([r.as_numpy("TOKEN_LOGPROBS")[0] for r in results])
    ids = np.concatenate([r.as_numpy("TOKEN_IDS")[0] for r in results])
    assert logprobs.size == ids.size == results[-1].as_numpy("COMPLETION_TOKENS").item()
    assert (logprobs <= 0).all()
    assert (logprobs > -20).all()
    assert all(r.as_numpy("STATISTICS").item() == b"" for r in results[:-1])
    statistics = json.loads(results[-1].as_numpy("STATISTICS").item())
    assert 0 <= statistics["queue_ms"] <= statistics["first_token_ms"] <= statistics["total_ms"]
    stream.ask("", watch=False, MAX_TOKENS=(2, "INT32"))
    results = stream.answer()
    assert results[-1].as_numpy("TOKEN_LOGPROBS").size == 0
    # The chat format before the picture was there already.
    assert json.loads(results[-1].as_numpy("STATISTICS").item())["shared_tokens"] > 0


def test_a_repetition_penalty_leaves_no_token_twice(stream: Stream) -> None:
    options = {"MAX_TOKENS": (30, "INT32"), "REPETITION_PENALTY": (100.0, "FP32")}
    stream.ask("", watch=False, **options)
    ids = np.concatenate([r.as_numpy("TOKEN_IDS")[0] for r in stream.answer()])
    assert len(set(ids.tolist())) == ids.size


def test_a_deadline_cuts_an_answer_off(stream: Stream) -> None:
    stream.ask("", watch=False, MAX_TOKENS=(256, "INT32"), TIMEOUT_MS=(1, "INT32"))
    last = stream.answer()[-1]
    assert last.as_numpy("FINISH_REASON").item() == b"timeout"
    assert last.as_numpy("COMPLETION_TOKENS").item() < 256


def test_metrics_add_up(stream: Stream, metrics: Metrics) -> None:
    before = metrics()
    stream.ask("", watch=False, MAX_TOKENS=(15, "INT32"))
    tokens = stream.answer()[-1].as_numpy("COMPLETION_TOKENS").item()
    finished = before["language_finished_total"] + 1
    after = wait_for(metrics, lambda now: now["language_finished_total"] == finished)
    assert after["language_tokens_total"] - before["language_tokens_total"] == tokens
    assert after["language_running"] == after["language_waiting"] == 0
    # What is left is the shared prefix.
    assert 0 < after["language_blocks_used"] < 3 < after["language_blocks_total"]


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_quantized_weights_are_built_checked_and_served(
    weights: str, serve_repository: Any, tmp_path: Path
) -> None:
    from builder.build import Build  # noqa: PLC0415 - brings torch
    from builder.spec.load import load_spec  # noqa: PLC0415
    from tests.integration.conftest import Steps  # noqa: PLC0415

    path = ROOT / "specs" / "arr_coc.yaml"
    spec = load_spec(path)
    stage = spec.stages.language.model_copy(update={"weights": weights, "draft_tokens": 3})
    stages = spec.stages.model_copy(update={"language": stage})
    report = Build(
        spec.model_copy(update={"stages": stages}), path, tmp_path / "repository", Steps()
    ).run()
    rows = [row for row in report.parity if row.artifact == "language"]
    assert {row.tensor for row in rows} == {f"logits ({weights} weights)"}
    assert all(row.tolerance == getattr(spec.verify, weights) for row in rows)
    assert all(row.max_abs_error > 1e-4 for row in rows)  # else nothing was quantized
    with serve_repository(tmp_path / "repository") as server:
        stream = Stream(server.grpc_url)
        stream.ask("", watch=False, MAX_TOKENS=(8, "INT32"))
        last = stream.answer()[-1]
        stream.leave()
    assert last.as_numpy("COMPLETION_TOKENS").item() in range(1, 9)

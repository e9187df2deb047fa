"""Answers that are left early on a real server: all they held is free, nothing else is hurt."""

import asyncio
import collections
import json
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest

from clients import (
    Answer,
    AnswerError,
    AsyncClient,
    DeadlineExceededError,
    GenerationOptions,
    Question,
    answer,
    cancel,
    stream,
)
from tests.integration._language import (
    QUESTION,
    Metrics,
    Stream,
    chatty,
    metrics_of,
    picture,
    wait_for,
)

ROOT = Path(__file__).parents[2]
LONG = 256


def asked(text: str, max_tokens: int = LONG) -> Question:
    return Question(picture(), text, GenerationOptions(max_tokens=max_tokens))


def quiet(values: dict[str, float]) -> bool:
    return values["language_running"] == values["language_waiting"] == 0


def settled(metrics: Metrics) -> dict[str, float]:
    """The metrics once nothing runs and what the engine reports late has come too."""
    last = wait_for(metrics, quiet)
    while True:
        time.sleep(1)
        if (values := wait_for(metrics, quiet)) == last:
            return values
        last = values


def freed(
    metrics: Metrics, before: dict[str, float], count: int, complete: int = 0
) -> dict[str, float]:
    """The metrics once `count` answers more have ended, all but `complete` of them cut off."""
    end = before["language_finished_total"] + count
    after = wait_for(metrics, lambda now: now["language_finished_total"] >= end and quiet(now))
    assert after["language_finished_total"] == end
    cancelled = after["language_cancelled_total"] - before["language_cancelled_total"]
    assert count - complete <= cancelled <= count
    assert after["language_blocks_used"] == before["language_blocks_used"]
    return after


def same(left: Answer, right: Answer) -> bool:
    return (left.token_ids, left.text) == (right.token_ids, right.text)


@pytest.fixture
def url(arr_coc_server: Any) -> str:
    return arr_coc_server.url  # type: ignore[no-any-return]


@pytest.fixture
def metrics(arr_coc_server: Any) -> Metrics:
    return metrics_of(arr_coc_server)


@pytest.fixture
def text(url: str) -> str:
    return chatty(url)


@pytest.fixture
def before(url: str, metrics: Metrics, text: str) -> dict[str, float]:
    """The metrics before the test, when the shared prefix is there."""
    answer(url, asked(text, 1))
    return settled(metrics)


def leave_by_closing(url: str, text: str, chunks: int) -> None:
    reading = stream(url, asked(text))
    for _ in range(chunks):
        next(reading)
    reading.close()


def leave_by_timeout(url: str, text: str, chunks: int) -> None:
    with pytest.raises(DeadlineExceededError):
        answer(url, asked(text), timeout=0.01 * chunks)


async def leave_async(url: str, texts: list[str]) -> None:
    async def one(client: AsyncClient, number: int, text: str) -> None:
        if number % 3 == 0:  # a loop that breaks
            async with aclosing(client.stream(asked(text))) as reading:
                async for _ in reading:
                    break
        elif number % 3 == 1:  # a task that is cancelled
            task = asyncio.create_task(client.answer(asked(text)))
            await asyncio.sleep(0.02 * number)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            with pytest.raises(DeadlineExceededError):
                await client.answer(asked(text), timeout=0.01 * number)

    async with AsyncClient(url) as client:
        await asyncio.gather(*(one(client, number, text) for number, text in enumerate(texts)))


def test_fifty_streams_are_left_early_and_nothing_is_lost(
    url: str, text: str, metrics: Metrics
) -> None:
    wanted = [answer(url, asked(f"{QUESTION} {i}", 24)) for i in range(4)]
    before = settled(metrics)
    failures: list[BaseException] = []

    def run(target: Callable[..., Any], *arguments: Any) -> None:
        try:
            target(*arguments)
        except BaseException as error:
            failures.append(error)

    jobs: list[tuple[Any, ...]] = [(leave_by_closing, url, text, 1 + i % 4) for i in range(15)]
    jobs += [(leave_by_timeout, url, text, i) for i in range(15)]
    jobs.append((asyncio.run, leave_async(url, [text] * 20)))
    threads = [threading.Thread(target=run, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    # On a busy machine a few are answered before their client's thread comes to leave them.
    after = freed(metrics, before, 50, complete=10)
    assert after["language_tokens_total"] - before["language_tokens_total"] < 50 * LONG / 2
    again = [answer(url, asked(f"{QUESTION} {i}", 24)) for i in range(4)]
    assert all(map(same, again, wanted))


def test_a_cancel_ends_the_stream_in_good_order(
    url: str, text: str, before: dict[str, float], metrics: Metrics
) -> None:
    """From anywhere, by the id; what was said before is that of the whole answer."""
    whole = answer(url, asked(text))
    before = settled(metrics)
    name = uuid.uuid4().hex
    chunks = []
    for chunk in stream(url, asked(text), request_id=name):
        if len(chunks) == 2:
            cancel(url, name)
        chunks.append(chunk)
    summary = chunks[-1].summary
    assert summary is not None
    assert summary.finish_reason == "cancelled"
    ids = tuple(token for chunk in chunks for token in chunk.token_ids)
    assert 3 <= len(ids) == summary.usage.completion_tokens < LONG
    assert ids == whole.token_ids[: len(ids)]
    freed(metrics, before, 1)


def test_a_cancel_may_come_before_its_question(url: str, text: str) -> None:
    name = str(uuid.uuid4())
    cancel(url, name)
    early = answer(url, asked(text), request_id=name)
    assert (early.finish_reason, early.token_ids) == ("cancelled", ())
    # It is used up with that answer.
    assert answer(url, asked(text, 5), request_id=name).usage.completion_tokens == 5


def test_an_id_that_two_clients_might_choose_cannot_be_cancelled(url: str, text: str) -> None:
    with pytest.raises(AnswerError, match="CANCEL needs a request id of 32") as caught:
        cancel(url, "1")
    assert caught.value.status == "INVALID_ARGUMENT"
    assert answer(url, asked(text, 5), request_id="1").usage.completion_tokens == 5


def test_a_cancel_of_nothing_is_no_error(url: str) -> None:
    cancel(url, uuid.uuid4().hex)

    async def by_asyncio() -> None:
        async with AsyncClient(url) as client:
            await client.cancel(uuid.uuid4().hex)
            with pytest.raises(AnswerError, match="CANCEL needs"):
                await client.cancel("short")

    asyncio.run(by_asyncio())


def test_a_cancel_over_http(
    arr_coc_server: Any, url: str, text: str, before: dict[str, float], metrics: Metrics
) -> None:
    """As curl would send it."""
    name = uuid.uuid4().hex
    raw = Stream(url)
    raw.ask(name, watch=False, text=text, MAX_TOKENS=(LONG, "INT32"))
    raw.next()
    request = urllib.request.Request(
        f"http://{arr_coc_server.server.http_url}/v2/models/language/generate",
        json.dumps({"id": name, "CANCEL": True}).encode(),
    )
    with urllib.request.urlopen(request) as reply:
        assert json.load(reply)["FINISH_REASON"] == "cancelled"
    assert raw.answer()[-1].as_numpy("FINISH_REASON").item() == b"cancelled"
    raw.leave()
    freed(metrics, before, 1)


def test_ctrl_c_on_builder_ask_cancels_the_answer(
    url: str, text: str, before: dict[str, float], metrics: Metrics, tmp_path: Path
) -> None:
    image = tmp_path / "picture.png"
    image.write_bytes(picture())
    arguments = [str(image), text, "--url", url, "--max-tokens", str(LONG)]
    # A job in the background of a script inherits that the signal is ignored.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from builder.cli import main; main()"
    )
    for _ in range(5):
        client = subprocess.Popen(
            [sys.executable, "-c", program, "ask", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert client.stdout is not None
        assert client.stdout.read(1)
        client.send_signal(signal.SIGINT)
        _, errors = client.communicate(timeout=60)
        if client.returncode:  # 0: the whole answer was there before the signal
            break
    assert client.returncode == 130
    assert errors.decode().split() == ["cancelled"]
    freed(metrics, before, 1)


def test_a_program_that_ends_cancels_what_it_has_half_read(
    url: str, text: str, before: dict[str, float], metrics: Metrics, tmp_path: Path
) -> None:
    image = tmp_path / "picture.png"
    image.write_bytes(picture())
    program = (
        "import sys; from clients import GenerationOptions, Question, stream;"
        "options = GenerationOptions(max_tokens=256);"
        "chunks = stream(sys.argv[1], Question.from_file(sys.argv[2], sys.argv[3], options));"
        "next(chunks)"
    )
    command = [sys.executable, "-c", program, url, str(image), text]
    done = subprocess.run(command, cwd=ROOT, check=True, timeout=60, capture_output=True)
    assert done.stderr == b""
    freed(metrics, before, 1)


@pytest.mark.slow
def test_two_thousand_requests_with_random_lengths_and_cancels(
    arr_coc_server: Any, url: str, metrics: Metrics
) -> None:
    """Every answer is whole or the beginning of it; slots, pages and memory all come back."""
    texts = [f"{QUESTION} {i}" for i in range(12)]
    wanted = [answer(url, asked(text)).token_ids for text in texts]
    before = settled(metrics)
    rng = random.Random(0)
    ways = collections.Counter[str]()
    memory: list[int] = []
    server = psutil.Process(arr_coc_server.server.pid)

    async def one(client: AsyncClient, line: asyncio.Semaphore) -> None:
        async with line:
            place, length = rng.randrange(len(texts)), rng.randrange(1, 97)
            chunks = rng.randrange(length // 2 + 1) if rng.random() < 0.25 else length
            name, ids, reason = uuid.uuid4().hex, list[int](), "left"
            by_id = rng.random() < 0.5
            reading = client.stream(asked(texts[place], length), request_id=name)
            async with aclosing(reading):
                number = 0
                async for chunk in reading:
                    ids += chunk.token_ids
                    number += 1
                    if chunk.summary is not None:
                        reason = chunk.summary.finish_reason
                    elif number == chunks + 1 and by_id:
                        await client.cancel(name)
                    elif number == chunks + 1:
                        break
            assert tuple(ids) == wanted[place][: len(ids)]
            if reason in {"length", "stop"}:
                assert tuple(ids) == wanted[place][:length]
            ways[reason] += 1
            if sum(ways.values()) % 100 == 0:
                processes = [server, *server.children(recursive=True)]
                memory.append(sum(process.memory_info().rss for process in processes))

    async def every() -> None:
        line = asyncio.Semaphore(24)
        async with AsyncClient(url) as client:
            await asyncio.gather(*(one(client, line) for _ in range(2000)))

    asyncio.run(every())
    end = before["language_finished_total"] + 2000
    after = wait_for(metrics, lambda now: now["language_finished_total"] >= end and quiet(now))
    print(f"{ways}; server MB: {[round(m / 1e6) for m in memory]}; {after}")
    assert after["language_finished_total"] == end
    assert after["language_blocks_used"] == before["language_blocks_used"]
    assert after["language_cancelled_total"] - before["language_cancelled_total"] > 200
    assert ways["cancelled"] > 100
    assert ways["left"] > 100
    # The first hundreds fill the allocators' arenas; what comes later must not add up.
    assert statistics.median(memory[-5:]) - statistics.median(memory[4:9]) < 64e6
    assert [answer(url, asked(text)).token_ids for text in texts] == wanted

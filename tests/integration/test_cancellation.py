"""Answers that are left early on a real server: all they held is free, nothing else is hurt."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

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


def freed(metrics: Metrics, before: dict[str, float], count: int) -> dict[str, float]:
    """The metrics once `count` answers more have ended, all of them cut off."""
    end = before["language_finished_total"] + count
    after = wait_for(metrics, lambda now: now["language_finished_total"] >= end and quiet(now))
    assert after["language_finished_total"] == end
    assert after["language_cancelled_total"] == before["language_cancelled_total"] + count
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
    return wait_for(metrics, quiet)


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
    before = wait_for(metrics, quiet)
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
    after = freed(metrics, before, 50)
    assert after["language_tokens_total"] - before["language_tokens_total"] < 50 * LONG / 2
    again = [answer(url, asked(f"{QUESTION} {i}", 24)) for i in range(4)]
    assert all(map(same, again, wanted))


def test_a_cancel_ends_the_stream_in_good_order(
    url: str, text: str, before: dict[str, float], metrics: Metrics
) -> None:
    """From anywhere, by the id; what was said before is that of the whole answer."""
    whole = answer(url, asked(text))
    before = wait_for(metrics, quiet)
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
    client = subprocess.Popen(
        [sys.executable, "-c", "from builder.cli import main; main()", "ask", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert client.stdout is not None
    assert client.stdout.read(1)
    client.send_signal(signal.SIGINT)
    _, errors = client.communicate(timeout=60)
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
def test_the_deadline_of_a_client_that_is_killed_frees_its_slot(
    cancelled_server: Any, text: str, tmp_path: Path
) -> None:
    metrics = metrics_of(cancelled_server)
    before = metrics()
    image = tmp_path / "picture.png"
    image.write_bytes(picture())
    program = (
        "import sys, os; from clients import GenerationOptions, Question, stream;"
        "options = GenerationOptions(max_tokens=256);"
        "asked = Question.from_file(sys.argv[2], sys.argv[3], options);"
        "next(stream(sys.argv[1], asked, timeout=0.3));"
        "os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", program, cancelled_server.url, str(image), text]
    done = subprocess.run(command, check=False, cwd=ROOT, timeout=60)
    assert done.returncode == -signal.SIGKILL
    after = wait_for(
        metrics, lambda now: now["language_finished_total"] > before["language_finished_total"]
    )
    assert after["language_tokens_total"] - before["language_tokens_total"] < LONG

"""The clients and `builder ask` against the pipeline on a real tritonserver."""

import asyncio
import io
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from builder.cli.ask import ask as ask_command
from builder.errors import RequestError
from clients import (
    Answer,
    AnswerError,
    AsyncClient,
    DeadlineExceededError,
    GenerationOptions,
    Question,
    answer,
    statistics,
    stream,
)

ROOT = Path(__file__).resolve().parents[2]
STAGES = {"preprocess", "vision", "relevance", "language", "arr_coc"}
WIDTH, HEIGHT = 480, 320


class Server(Protocol):
    """The fixture `arr_coc_server`."""

    url: str


@pytest.fixture(scope="module")
def url(arr_coc_server: Server) -> str:
    return arr_coc_server.url


@pytest.fixture(scope="module")
def picture() -> bytes:
    rng = np.random.default_rng(7)
    blocks = Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    blocks.resize((WIDTH, HEIGHT), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def question(picture: bytes, prompt: str = "What is in the picture?", **options: int) -> Question:
    return Question(picture, prompt, GenerationOptions(**{"max_tokens": 6, **options}))  # type: ignore[arg-type]


def same(left: Answer, right: Answer) -> bool:
    return (
        left.text == right.text
        and left.token_ids == right.token_ids
        and left.finish_reason == right.finish_reason
        and left.usage == right.usage
        and left.kept_indices.tolist() == right.kept_indices.tolist()
    )


def test_an_answer_holds_what_the_contract_says(url: str, picture: bytes) -> None:
    reply = answer(url, question(picture, max_tokens=5, visual_tokens=3))
    rows, cols = reply.relevance_map.shape
    assert reply.finish_reason in {"stop", "length"}
    assert 1 <= reply.usage.completion_tokens <= 5
    if reply.finish_reason == "length":
        assert reply.usage.completion_tokens == len(reply.token_ids) == 5
    assert len(set(reply.kept_indices.tolist())) == len(reply.kept_indices) == 3
    assert 0 <= reply.kept_indices.min() <= reply.kept_indices.max() < rows * cols
    assert np.isfinite(reply.relevance_map).all()
    # Visual tokens are part of the prompt.
    fewer = answer(url, question(picture, max_tokens=1, visual_tokens=1))
    assert reply.usage.prompt_tokens - fewer.usage.prompt_tokens == 2
    assert fewer.kept_indices.tolist() == reply.kept_indices.tolist()[:1]


def test_chunks_stream_and_join_to_the_answer(url: str, picture: bytes) -> None:
    asked = question(picture, max_tokens=12)
    chunks = list(stream(url, asked))
    whole = answer(url, asked)
    assert len(chunks) > 1
    assert all(chunk.summary is None for chunk in chunks[:-1])
    assert chunks[-1].summary is not None
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert tuple(token for chunk in chunks for token in chunk.token_ids) == whole.token_ids


def test_a_stream_that_is_left_early_harms_no_later_one(url: str, picture: bytes) -> None:
    chunks = stream(url, question(picture, max_tokens=32))
    next(chunks)
    chunks.close()
    assert list(chunks) == []
    assert answer(url, question(picture)).usage.completion_tokens >= 1


def test_a_program_may_end_with_a_half_read_stream(
    url: str, picture: bytes, tmp_path: Path
) -> None:
    image = tmp_path / "picture.png"
    image.write_bytes(picture)
    program = (
        "import sys; from clients import Question, stream;"
        "chunks = stream(sys.argv[1], Question.from_file(sys.argv[2], 'What is it?'));"
        "next(chunks)"
    )
    command = [sys.executable, "-c", program, url, str(image)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)


def test_a_refused_picture_is_reported_with_sentence_and_status(url: str) -> None:
    with pytest.raises(AnswerError, match="IMAGE") as caught:
        answer(url, question(b"this is no picture"))
    assert caught.value.status == "INVALID_ARGUMENT"


def test_a_refused_option_is_reported_with_sentence_and_status(url: str, picture: bytes) -> None:
    with pytest.raises(AnswerError, match="MAX_TOKENS") as caught:
        answer(url, question(picture, max_tokens=0))
    assert caught.value.status == "INVALID_ARGUMENT"


def test_an_unknown_model_is_reported(url: str, picture: bytes) -> None:
    with pytest.raises(AnswerError, match="no_such_model"):
        answer(url, question(picture), model="no_such_model")


def test_a_model_that_is_no_pipeline_is_reported(url: str, picture: bytes) -> None:
    with pytest.raises(AnswerError):
        answer(url, question(picture), model="vision")


def test_the_deadline_ends_an_answer(url: str, picture: bytes) -> None:
    with pytest.raises(DeadlineExceededError):
        answer(url, question(picture), timeout=1e-6)


def test_a_picture_of_fifty_megabytes_passes(url: str, picture: bytes) -> None:
    # What follows the end of a PNG is ignored, so this is the same picture in a large message.
    large = picture + bytes(50 * 2**20)
    assert same(answer(url, question(large)), answer(url, question(picture)))


def test_statistics_hold_every_stage_of_the_request(url: str, picture: bytes) -> None:
    before = statistics.read(url)
    answer(url, question(picture))
    stages = statistics.difference(before, statistics.read_after(url, before))
    assert {stage.model for stage in stages} >= STAGES
    for stage in stages:
        assert stage.requests >= 1, stage
        assert stage.failures == 0, stage
        assert stage.total_ms > 0, stage
        assert min(stage.queue_ms, stage.input_ms, stage.infer_ms, stage.output_ms) >= 0, stage


def test_statistics_count_failures(url: str) -> None:
    before = statistics.read(url)
    with pytest.raises(AnswerError):
        answer(url, question(b"this is no picture"))
    stages = statistics.difference(before, statistics.read_after(url, before))
    failures = {stage.model: stage.failures for stage in stages}
    assert failures["arr_coc"] >= 1  # Triton 24.10 counts an ensemble's failure twice


# --- asyncio


def test_many_asyncio_answers_at_once_equal_the_blocking_ones(url: str, picture: bytes) -> None:
    prompts = [f"How many blocks of colour {number}?" for number in range(6)]

    async def ask_all() -> list[Answer]:
        async with AsyncClient(url) as client:
            return await asyncio.gather(
                *(client.answer(question(picture, prompt)) for prompt in prompts)
            )

    for prompt, reply in zip(prompts, asyncio.run(ask_all()), strict=True):
        assert same(reply, answer(url, question(picture, prompt)))


def test_asyncio_streams_chunks_and_may_be_left_early(url: str, picture: bytes) -> None:
    async def talk() -> tuple[list[str], Answer]:
        async with AsyncClient(url) as client:
            async with aclosing(client.stream(question(picture, max_tokens=32))) as chunks:
                async for _ in chunks:
                    break
            texts = [chunk.text async for chunk in client.stream(question(picture))]
            return texts, await client.answer(question(picture))

    texts, whole = asyncio.run(talk())
    assert len(texts) > 1
    assert "".join(texts) == whole.text


def test_one_asyncio_failure_leaves_the_others_alone(url: str, picture: bytes) -> None:
    async def ask_both() -> list[Answer | BaseException]:
        async with AsyncClient(url) as client:
            return await asyncio.gather(
                client.answer(question(b"this is no picture")),
                client.answer(question(picture)),
                client.answer(question(picture), timeout=1e-6),
                return_exceptions=True,
            )

    refused, answered, late = asyncio.run(ask_both())
    assert isinstance(refused, AnswerError)
    assert refused.status == "INVALID_ARGUMENT"
    assert "IMAGE" in refused.message
    assert isinstance(answered, Answer)
    assert isinstance(late, DeadlineExceededError)


def test_a_cancelled_asyncio_task_is_cancelled(url: str, picture: bytes) -> None:
    async def cancel() -> Answer:
        async with AsyncClient(url) as client:
            task = asyncio.create_task(client.answer(question(picture, max_tokens=32)))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await client.answer(question(picture))

    assert asyncio.run(cancel()).usage.completion_tokens >= 1


# --- builder ask


def run_ask(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(ask_command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_ask_prints_answer_stages_and_heat_map(url: str, picture: bytes, tmp_path: Path) -> None:
    image, drawn = tmp_path / "picture.png", tmp_path / "map.png"
    image.write_bytes(picture)
    text = "What is in the picture?"
    result = run_ask(
        image, text, "--url", url, "--max-tokens", 6, "--visual-tokens", 3, "--heatmap", drawn
    )
    assert result.exit_code == 0, result.output
    reply = answer(url, question(picture, text, visual_tokens=3))
    assert result.stdout.startswith(reply.text + "\n")
    for stage in STAGES:
        assert stage in result.stdout
    for words in (
        "first token",
        f"{reply.usage.prompt_tokens} prompt tokens",
        f"3 visual of {reply.relevance_map.size}",
        f"{reply.usage.completion_tokens} generated",
        reply.finish_reason,
    ):
        assert words in result.stdout
    with Image.open(drawn) as written:
        assert written.format == "PNG"
        assert written.size == (WIDTH, HEIGHT)


def test_ask_reports_the_server_s_sentence(url: str, tmp_path: Path) -> None:
    image = tmp_path / "picture.png"
    image.write_bytes(b"this is no picture")
    error = run_ask(image, "What?", "--url", url).exception
    assert isinstance(error, RequestError)
    assert "IMAGE" in str(error)
    assert "INVALID_ARGUMENT" in str(error)

"""Packing of requests and parsing of responses, with tritonclient's own messages."""

import ast
import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2
from tritonclient.utils import (
    InferenceServerException,
    deserialize_bytes_tensor,
    serialize_byte_tensor,
    triton_to_np_dtype,
)
from typer.testing import CliRunner

import clients
from builder.cli.ask import _printable
from builder.cli.ask import ask as ask_command
from builder.errors import RequestError, ServerError
from builder.runtime.models.language.watch import MIN_ID_LENGTH
from clients import (
    AnswerError,
    AsyncClient,
    GenerationOptions,
    Question,
    answer,
    cancel,
    statistics,
    stream,
)
from clients.cancel import cancel_request, new_request_id
from clients.errors import (
    DeadlineExceededError,
    ServerUnavailableError,
    from_message,
    from_triton,
)
from clients.request import infer_request
from clients.response import Chunk, Summary, Usage, join, parse_chunk, parse_last
from clients.statistics import StageTimes

ROOT = Path(clients.__file__).parent


# --- requests


def unpack(question: Question) -> dict[str, np.ndarray]:
    """What a server reads out of the request's tensors."""
    # Over the wire and back.
    request = service_pb2.ModelInferRequest.FromString(infer_request(question).SerializeToString())
    assert len(request.inputs) == len(request.raw_input_contents)
    tensors = {}
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        if tensor.datatype == "BYTES":
            values = deserialize_bytes_tensor(raw)
        else:
            values = np.frombuffer(raw, dtype=triton_to_np_dtype(tensor.datatype))
        tensors[tensor.name] = values.reshape(list(tensor.shape))
    return tensors


def test_a_request_names_its_model_and_id() -> None:
    request = infer_request(Question(b"i", "q"), model="arr_coc_2", request_id="r7")
    assert (request.model_name, request.id) == ("arr_coc_2", "r7")


def test_a_plain_question_sends_only_what_it_says() -> None:
    tensors = unpack(Question(b"\x89PNG\x00\x00", "Was ist das für ein Tier?"))
    assert set(tensors) == {"IMAGE", "PROMPT"}
    assert tensors["IMAGE"].tolist() == [[b"\x89PNG\x00\x00"]]
    assert tensors["PROMPT"][0, 0].decode() == "Was ist das für ein Tier?"


@pytest.mark.parametrize("images", [[], [b"a"], [b"a", b"\x00", b"ccc\x00"]])
def test_several_pictures_are_one_tensor(images: list[bytes]) -> None:
    question = Question(images, "q")
    assert question.images == tuple(images)
    request = infer_request(question)
    (tensor,) = (tensor for tensor in request.inputs if tensor.name == "IMAGE")
    assert list(tensor.shape) == [1, len(images)]
    raw = request.raw_input_contents[0]
    assert (list(deserialize_bytes_tensor(raw)) if raw else []) == images


def test_every_option_becomes_its_tensor() -> None:
    options = GenerationOptions(
        max_tokens=7,
        visual_tokens=5,
        temperature=0.5,
        top_p=0.25,
        top_k=3,
        seed=2**64 - 1,
        stop=("\n\n", "Ende", ""),
    )
    tensors = unpack(Question(b"i", "q", options))
    expected: dict[str, tuple[Any, list[list[Any]]]] = {
        "MAX_TOKENS": (np.int32, [[7]]),
        "VISUAL_TOKENS": (np.int32, [[5]]),
        "TEMPERATURE": (np.float32, [[0.5]]),
        "TOP_P": (np.float32, [[0.25]]),
        "TOP_K": (np.int32, [[3]]),
        "SEED": (np.uint64, [[2**64 - 1]]),
        "STOP": (np.object_, [[b"\n\n", b"Ende", b""]]),
    }
    assert set(tensors) == {"IMAGE", "PROMPT", *expected}
    for name, (dtype, values) in expected.items():
        assert tensors[name].dtype == dtype, name
        assert tensors[name].tolist() == values, name


def test_zero_is_sent_and_not_taken_for_left_out() -> None:
    options = GenerationOptions(max_tokens=0, temperature=0.0, top_k=0, seed=0)
    assert set(unpack(Question(b"", "", options))) == {
        "IMAGE",
        "PROMPT",
        "MAX_TOKENS",
        "TEMPERATURE",
        "TOP_K",
        "SEED",
    }


@given(
    image=st.binary(max_size=64), prompt=st.text(max_size=32), stop=st.lists(st.text(max_size=4))
)
def test_bytes_and_text_arrive_unchanged(image: bytes, prompt: str, stop: list[str]) -> None:
    tensors = unpack(Question(image, prompt, GenerationOptions(stop=stop)))
    assert tensors["IMAGE"].tolist() == [[image]]
    assert tensors["PROMPT"].tolist() == [[prompt.encode()]]
    assert ("STOP" in tensors) == bool(stop)
    if stop:
        assert tensors["STOP"].tolist() == [[text.encode() for text in stop]]


@pytest.mark.parametrize(
    ("options", "tensor"),
    [
        (GenerationOptions(max_tokens=2**31), "MAX_TOKENS"),
        (GenerationOptions(visual_tokens=-(2**31) - 1), "VISUAL_TOKENS"),
        (GenerationOptions(seed=-1), "SEED"),
        (GenerationOptions(seed=2**64), "SEED"),
    ],
)
def test_a_number_that_would_wrap_around_is_refused(
    options: GenerationOptions, tensor: str
) -> None:
    with pytest.raises(ValueError, match=tensor):
        infer_request(Question(b"i", "q", options))


@pytest.mark.parametrize(
    ("seconds", "milliseconds"), [(1e-6, 1), (0.0, 1), (1.0, 1000), (2.0001, 2001), (1e7, None)]
)
def test_the_server_is_told_the_deadline(seconds: float, milliseconds: int | None) -> None:
    request = infer_request(Question(b"i", "q"), timeout=seconds)
    sent = dict(
        zip((tensor.name for tensor in request.inputs), request.raw_input_contents, strict=True)
    )
    if milliseconds is None:  # more than the tensor holds: nobody waits 24 days
        assert "TIMEOUT_MS" not in sent
    else:
        assert np.frombuffer(sent["TIMEOUT_MS"], np.int32).tolist() == [milliseconds]


def test_a_cancel_names_the_answer_and_the_model() -> None:
    request = cancel_request("0123", "language_2")
    assert (request.model_name, request.id) == ("language_2", "0123")
    assert [tensor.name for tensor in request.inputs] == ["CANCEL"]
    assert np.frombuffer(request.raw_input_contents[0], np.bool_).tolist() == [True]


def test_request_ids_are_random_and_long_enough_to_be_cancelled() -> None:
    ids = {new_request_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(name) >= MIN_ID_LENGTH for name in ids)


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        infer_request(Question(b"i", "caf\udce9"))


# --- responses


def response(**tensors: tuple[str, Any]) -> service_pb2.ModelStreamInferResponse:
    """A response as Triton sends it: NAME=(Triton dtype, array)."""
    message = service_pb2.ModelInferResponse(model_name="arr_coc")
    for name, (datatype, values) in tensors.items():
        dtype = np.object_ if datatype == "BYTES" else triton_to_np_dtype(datatype)
        array = np.asarray(values, dtype=dtype)
        message.outputs.add(name=name, datatype=datatype, shape=list(array.shape))
        raw = serialize_byte_tensor(array).item() if datatype == "BYTES" else array.tobytes()
        message.raw_output_contents.append(raw)
    return service_pb2.ModelStreamInferResponse(infer_response=message)


def full_response(
    text: str, ids: list[int], finish_reason: str = ""
) -> service_pb2.ModelStreamInferResponse:
    done = bool(finish_reason)
    return response(
        TEXT=("BYTES", [[text.encode()]]),
        TOKEN_IDS=("INT32", np.array([ids]).reshape(1, -1)),
        FINISH_REASON=("BYTES", [[finish_reason.encode()]]),
        PROMPT_TOKENS=("INT32", [[40 if done else 0]]),
        COMPLETION_TOKENS=("INT32", [[3 if done else 0]]),
        KEPT_INDICES=("INT32", [[5, 0, 3]] if done else np.zeros((1, 0))),
        RELEVANCE_MAP=(
            "FP32",
            np.arange(6).reshape(1, 2, 3) if done else np.zeros((1, 0, 0)),
        ),
    )


def test_a_chunk_has_text_and_ids_only() -> None:
    chunk = parse_chunk(full_response("né", [7, 8]))
    assert chunk == Chunk(text="né", token_ids=(7, 8), summary=None)


def test_the_last_chunk_has_the_summary() -> None:
    chunk = parse_chunk(full_response("", [], "length"))
    assert chunk is not None
    assert chunk.summary is not None
    assert chunk.text == ""
    assert chunk.token_ids == ()
    assert chunk.summary.finish_reason == "length"
    assert chunk.summary.usage == Usage(prompt_tokens=40, completion_tokens=3)
    assert chunk.summary.kept_indices.tolist() == [5, 0, 3]
    assert chunk.summary.kept_indices.dtype == np.int32
    assert chunk.summary.relevance_map.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert chunk.summary.relevance_map.dtype == np.float32


def test_a_response_without_tensors_is_no_chunk() -> None:
    assert parse_chunk(response()) is None


def test_a_response_may_be_an_error() -> None:
    refused = service_pb2.ModelStreamInferResponse(error_message="no such model")
    with pytest.raises(AnswerError, match="no such model") as caught:
        parse_chunk(refused)
    assert caught.value.status == "UNKNOWN"


def test_the_last_response_is_the_summary_an_error_or_marked_final() -> None:
    assert parse_last(full_response("a", [1])) == (Chunk("a", (1,)), False)
    chunk, last = parse_last(full_response("", [], "stop"))
    assert isinstance(chunk, Chunk)
    assert last
    error, last = parse_last(service_pb2.ModelStreamInferResponse(error_message="no"))
    assert isinstance(error, AnswerError)
    assert last
    empty = response()
    assert parse_last(empty) == (None, False)
    empty.infer_response.parameters["triton_final_response"].bool_param = True
    assert parse_last(empty) == (None, True)


def test_another_model_s_response_is_named_as_such() -> None:
    with pytest.raises(AnswerError, match="FINISH_REASON"):
        parse_chunk(response(logits=("FP32", [[1.0]])))


SUMMARY = Summary("stop", Usage(9, 4), np.array([1], np.int32), np.zeros((1, 2), np.float32))


@given(
    st.lists(st.tuples(st.text(max_size=4), st.lists(st.integers(0, 99), max_size=3)), min_size=1)
)
def test_the_answer_is_the_chunks_joined(parts: list[tuple[str, list[int]]]) -> None:
    chunks = [Chunk(text, tuple(ids)) for text, ids in parts]
    chunks[-1] = Chunk(chunks[-1].text, chunks[-1].token_ids, SUMMARY)
    answer = join(chunks)
    assert answer.text == "".join(text for text, _ in parts)
    assert list(answer.token_ids) == [token for _, ids in parts for token in ids]
    assert answer.finish_reason == "stop"
    assert answer.usage is SUMMARY.usage
    assert answer.kept_indices is SUMMARY.kept_indices
    assert answer.relevance_map is SUMMARY.relevance_map


@pytest.mark.parametrize("chunks", [[], [Chunk("half an ans", (1, 2))]])
def test_a_stream_that_was_cut_short_is_no_answer(chunks: list[Chunk]) -> None:
    with pytest.raises(AnswerError, match="ended before the last") as caught:
        join(chunks)
    assert caught.value.status == "DATA_LOSS"


# --- errors


@pytest.mark.parametrize(
    ("sent", "kind", "status"),
    [
        ("StatusCode.INVALID_ARGUMENT", AnswerError, "INVALID_ARGUMENT"),
        ("StatusCode.UNAVAILABLE", ServerUnavailableError, "UNAVAILABLE"),
        ("StatusCode.DEADLINE_EXCEEDED", DeadlineExceededError, "DEADLINE_EXCEEDED"),
        (None, AnswerError, "UNKNOWN"),
    ],
)
def test_errors_keep_the_sentence_and_the_status(
    sent: str | None, kind: type[AnswerError], status: str
) -> None:
    error = from_triton(InferenceServerException("IMAGE is no picture", status=sent))
    assert type(error) is kind
    assert error.message == str(error) == "IMAGE is no picture"
    assert error.status == status


NOWHERE = "127.0.0.1:1"  # a privileged port without a service: connecting fails at once


def test_no_server_is_reported_by_every_client() -> None:
    question = Question(b"i", "q")

    async def ask() -> None:
        async with AsyncClient(NOWHERE) as client:
            await client.answer(question)

    with pytest.raises(ServerUnavailableError):
        next(stream(NOWHERE, question))
    with pytest.raises(ServerUnavailableError):
        answer(NOWHERE, question)
    with pytest.raises(ServerUnavailableError):
        asyncio.run(ask())
    with pytest.raises(ServerUnavailableError):
        statistics.read(NOWHERE)
    with pytest.raises(ServerUnavailableError):
        cancel(NOWHERE, new_request_id())


def test_a_question_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG")
    options = GenerationOptions(max_tokens=3)
    assert Question.from_file(path, "q", options) == Question(b"\x89PNG", "q", options)
    assert Question.from_files([path] * 2, "q", options) == Question(
        (b"\x89PNG",) * 2, "q", options
    )
    with pytest.raises(FileNotFoundError):
        Question.from_file(tmp_path / "none.png", "q")


# --- statistics


def stage(model: str, requests: int, queue: float, failures: int = 0) -> StageTimes:
    return StageTimes(model, "1", requests, failures, 0, queue, 2 * queue, 3 * queue, 0.0, queue)


def snapshot(*stages: StageTimes) -> dict[tuple[str, str], StageTimes]:
    return {(entry.model, entry.version): entry for entry in stages}


def test_the_difference_is_what_happened_in_between() -> None:
    before = snapshot(stage("vision", 10, 100.0), stage("idle", 4, 8.0), stage("broken", 1, 1.0))
    after = snapshot(
        stage("vision", 12, 103.0),
        stage("idle", 4, 8.0),
        stage("broken", 1, 1.0, failures=1),
        stage("new", 1, 5.0),
    )
    assert statistics.difference(before, after) == [
        stage("vision", 2, 3.0),
        StageTimes("broken", "1", 0, 1, 0, 0.0, 0.0, 0.0, 0.0, 0.0),
        stage("new", 1, 5.0),
    ]


def test_a_model_that_was_loaded_anew_counts_from_zero() -> None:
    before, after = snapshot(stage("vision", 10, 100.0)), snapshot(stage("vision", 1, 2.0))
    assert statistics.difference(before, after) == [stage("vision", 1, 2.0)]


# --- the package


def test_everything_named_in_all_is_there() -> None:
    missing = [name for name in clients.__all__ if not hasattr(clients, name)]
    assert not missing
    assert clients.__all__ == sorted(clients.__all__)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield str(node.module).partition(".")[0]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.name)
def test_a_client_needs_only_tritonclient_and_numpy(path: Path) -> None:
    allowed = {"clients", "tritonclient", "grpc", "numpy", *sys.stdlib_module_names}
    if path.name == "heatmap.py":
        allowed.add("PIL")
    assert set(imports(path)) <= allowed


def test_importing_the_clients_does_not_import_pillow() -> None:
    code = "import clients, clients.statistics, sys; sys.exit('PIL' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, check=True)


# --- builder ask, as far as it goes without a server


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(b"never decoded here")
    return path


def ask(*arguments: object) -> BaseException | None:
    app = typer.Typer()
    app.command()(ask_command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code != 0
    return result.exception


def test_a_missing_picture_is_the_user_s_mistake(tmp_path: Path) -> None:
    error = ask(tmp_path / "none.png", "What?")
    assert isinstance(error, RequestError)
    assert "none.png" in str(error)


def test_no_server_is_said_with_the_address(picture: Path) -> None:
    error = ask(picture, "What?", "--url", NOWHERE)
    assert isinstance(error, ServerError)
    assert NOWHERE in str(error)
    assert "builder serve" in str(error)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--url", "http://localhost:8001"], "without a scheme"),
        (["--timeout", "0"], "--timeout"),
        (["--heatmap", "/no/such/folder/map.png"], "--heatmap"),
    ],
)
def test_an_option_that_cannot_work_is_refused_first(
    picture: Path, arguments: list[str], words: str
) -> None:
    error = ask(picture, "What?", *arguments)
    assert isinstance(error, RequestError | ServerError)
    assert words in str(error)


def test_control_characters_do_not_reach_a_terminal() -> None:
    assert _printable("a\x1b[2Jé\n\t\x00") == "a\ufffd[2Jé\n\t\ufffd"


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        (
            "in ensemble 'arr_coc', INVALID_ARGUMENT: PROMPT is empty",
            "INVALID_ARGUMENT",
            "PROMPT is empty",
        ),
        ("UNAVAILABLE: the language stage is full", "UNAVAILABLE", "the language stage is full"),
        (
            "in ensemble 'arr_coc', Stub process 'language_0_0' is not healthy.",
            "UNAVAILABLE",
            "in ensemble 'arr_coc', Stub process 'language_0_0' is not healthy.",
        ),
        ("Request timeout expired", "UNAVAILABLE", "Request timeout expired"),
        ("in ensemble 'x', OOPS: not a status", "UNKNOWN", "in ensemble 'x', OOPS: not a status"),
        ("unexpected shape for input 'IMAGE'", "UNKNOWN", "unexpected shape for input 'IMAGE'"),
    ],
)
def test_an_error_within_a_stream_has_the_status_that_its_stage_named(
    text: str, status: str, message: str
) -> None:
    error = from_message(text)
    assert (error.status, error.message) == (status, message)
    assert isinstance(error, ServerUnavailableError) == (status == "UNAVAILABLE")

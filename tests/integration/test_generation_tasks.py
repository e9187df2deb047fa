"""Tasks that generate text on a real tritonserver, against transformers' `generate`."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from tritonclient.utils import InferenceServerException

from builder.bench import Plan, run
from builder.build import Build
from builder.serve import TritonServer
from builder.spec.task import TaskSpec
from examples.tiny.generation import make_causal, make_seq2seq, make_whisper
from tests.integration.conftest import Steps
from tests.integration.generation_client import ask_all, infer_all, infer_rows
from tests.integration.subsets import count_answers

Serve = Callable[..., TritonServer]
TOKENS = 16
PROMPTS = (
    "What is in the picture?",
    "Is there a cat",
    "The cup is white and stands on a wooden table. There are two cats and one dog.",
    "ä",
    "Where is the spoon? It is to the left",
    "1, 2, 3,",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "?",
)
CAUSAL = ("llama", "gpt2")
SEQ2SEQ: dict[str, dict[str, Any]] = {
    "t5": {},
    "marian": {
        "bad_words_ids": [[0]],
        "forced_eos_token_id": 0,
        "no_repeat_ngram_size": 2,
        "min_length": 5,
        "suppress_tokens": [300, 301],
    },
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generation")
    for family in CAUSAL:
        make_causal(folder / family, family)
    for family, rules in SEQ2SEQ.items():
        make_seq2seq(folder / family, family, **rules)
    make_whisper(folder / "whisper")
    return folder


def build(folder: Path, name: str, task: str, checkpoint: str, **keys: Any) -> Path:
    spec = TaskSpec.model_validate(
        {"name": name, "task": task, "checkpoint": {"path": checkpoint}, **keys}
    )
    repository = folder / f"{name}_repository"
    report = Build(spec, folder / "spec.yaml", repository, Steps()).run()
    assert report.parity
    assert all(row.passed for row in report.parity)
    return repository


@pytest.fixture(scope="module")
def running(checkpoints: Path, serve_repository: Serve) -> Iterator[TritonServer]:
    generation = {
        "slots": 4,
        "prefill_chunk": 8,
        "draft_tokens": 3,
        "intra_op_thread_count": 1,
    }
    repositories = [
        build(checkpoints, name, "text-generation", name, generation=generation) for name in CAUSAL
    ]
    # torch's own exporter: half of the time of transformers'.
    model = {"exporter": "torch", "max_batch_size": 8}
    repositories += [
        build(checkpoints, name, "text2text-generation", name, model=model) for name in SEQ2SEQ
    ]
    repositories.append(
        build(checkpoints, "whisper", "automatic-speech-recognition", "whisper", model=model)
    )
    together = checkpoints / "repository"
    together.mkdir()
    for repository in repositories:
        for model in repository.iterdir():
            if model.is_dir():
                shutil.copytree(model, together / model.name)
    with serve_repository(together) as running:
        yield running


@pytest.fixture
def server(running: TritonServer) -> str:
    return running.grpc_url


class Source:
    """A checkpoint in transformers."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        auto = AutoModelForSeq2SeqLM if folder.name in SEQ2SEQ else AutoModelForCausalLM
        self.model = auto.from_pretrained(folder).eval()

    @torch.inference_mode()
    def ids(self, prompt: list[int], **options: Any) -> list[int]:
        output = self.model.generate(
            torch.tensor([prompt]), max_new_tokens=TOKENS, do_sample=False, **options
        )
        return output[0, len(prompt) :].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", CAUSAL)
def test_greedy_answers_are_those_of_generate(name: str, server: str, checkpoints: Path) -> None:
    source = Source(checkpoints / name)
    wanted = [source.ids(source.tokenizer(prompt).input_ids) for prompt in PROMPTS]
    requests = [{"PROMPT": prompt, "MAX_TOKENS": TOKENS} for prompt in PROMPTS]
    alone = [ask_all(server, name, [request])[0] for request in requests]
    together = ask_all(server, name, requests)
    for answers in (alone, together):
        assert [answer.ids for answer in answers] == wanted
    for prompt, answer, ids in zip(PROMPTS, together, wanted, strict=True):
        ended = ids[-1] in source.model.generation_config.eos_token_id
        assert answer.reason == ("stop" if ended else "length")
        assert answer.text == source.tokenizer.decode(ids, skip_special_tokens=True)
        assert answer.prompt_tokens == len(source.tokenizer(prompt).input_ids)
        assert answer.completion_tokens == len(ids)
        assert json.loads(answer.statistics)["total_ms"] > 0
    assert len({tuple(ids) for ids in wanted}) > len(wanted) // 2
    assert max(answer.chunks for answer in alone) > 2


def test_penalty_and_logprobs(server: str, checkpoints: Path) -> None:
    source = Source(checkpoints / "llama")
    prompt = source.tokenizer(PROMPTS[0]).input_ids
    wanted = source.ids(prompt, repetition_penalty=1.7)
    request = {"PROMPT": PROMPTS[0], "MAX_TOKENS": TOKENS, "REPETITION_PENALTY": 1.7}
    answer = ask_all(server, "llama", [{**request, "LOGPROBS": True}])[0]
    assert answer.ids == wanted
    assert len(answer.logprobs) == len(wanted)
    assert all(value <= 0 for value in answer.logprobs)


def test_samples_depend_on_the_seed_alone(server: str) -> None:
    request = {
        "PROMPT": PROMPTS[2],
        "MAX_TOKENS": TOKENS,
        "TEMPERATURE": 1.5,
        "TOP_P": 0.95,
        "TOP_K": 50,
    }
    alone = ask_all(server, "gpt2", [{**request, "SEED": 7}])[0]
    crowd = ask_all(server, "gpt2", [{**request, "SEED": seed} for seed in range(4, 12)])
    assert crowd[3].ids == alone.ids
    assert len({tuple(answer.ids) for answer in crowd}) == len(crowd)


def test_stop_strings(server: str) -> None:
    whole = ask_all(server, "llama", [{"PROMPT": PROMPTS[0], "MAX_TOKENS": TOKENS}])[0].text
    stop = whole[len(whole) // 2 :][:3]
    request = {"PROMPT": PROMPTS[0], "MAX_TOKENS": TOKENS, "STOP": [stop, "never"]}
    answer = ask_all(server, "llama", [request])[0]
    assert answer.reason == "stop"
    assert answer.text == whole[: whole.index(stop)]


def test_messages_are_rendered_as_transformers_does(server: str, checkpoints: Path) -> None:
    source = Source(checkpoints / "llama")
    messages = [
        {"role": "system", "content": "  You see cups. "},
        {"role": "user", "content": 'Is <|im_end|> a "cup"? ä & <b>'},
    ]
    prompt = source.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    request = {"MESSAGES": json.dumps(messages), "MAX_TOKENS": TOKENS}
    answer = ask_all(server, "llama", [request])[0]
    assert answer.prompt_tokens == len(prompt)
    assert answer.ids == source.ids(prompt)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({}, "either PROMPT or MESSAGES; neither was given"),
        ({"PROMPT": "a", "MESSAGES": "[]"}, "either PROMPT or MESSAGES; both were given"),
        ({"MESSAGES": "[{"}, "MESSAGES is not valid JSON"),
        ({"MESSAGES": "[]"}, "MESSAGES must be a JSON list"),
        ({"MESSAGES": '[{"content": "x"}]'}, r"MESSAGES\[0\] must be an object with role"),
        ({"MESSAGES": '[{"role": "user"}]'}, r"MESSAGES\[0\] has no content"),
        (
            {"MESSAGES": '[{"role": "judge", "content": "x"}]'},
            "does not suit the chat template: unknown role judge",
        ),
        ({"PROMPT": ""}, "PROMPT has no tokens"),
        ({"PROMPT": b"\xff"}, "PROMPT is not valid UTF-8"),
        ({"PROMPT": "x y " * 200}, "PROMPT has .* tokens; at most 255"),
        ({"PROMPT": "x y " * 60, "MAX_TOKENS": 128}, "together at most 256"),
        ({"PROMPT": "x", "MAX_TOKENS": 0}, "MAX_TOKENS is 0"),
        ({"PROMPT": "x", "TEMPERATURE": -1.0}, "TEMPERATURE is -1.0"),
    ],
)
def test_bad_requests_get_one_sentence(
    request_: dict[str, Any], sentence: str, server: str
) -> None:
    with pytest.raises(InferenceServerException, match=f"INVALID_ARGUMENT: .*{sentence}"):
        ask_all(server, "llama", [request_ or {"SEED": 1}])


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_text_to_text_is_that_of_generate(name: str, server: str, checkpoints: Path) -> None:
    source = Source(checkpoints / name)
    wanted = []
    for prompt in PROMPTS:
        ids = source.tokenizer(prompt, return_tensors="pt").input_ids
        with torch.inference_mode():
            output = source.model.generate(ids, max_new_tokens=TOKENS, do_sample=False)
        wanted.append(output[0, 1:].tolist())
    requests = [{"TEXT": prompt, "MAX_TOKENS": TOKENS} for prompt in PROMPTS]
    alone = [infer_all(server, name, [request])[0] for request in requests]
    together = infer_all(server, name, requests)
    rows = infer_rows(server, name, PROMPTS)
    for answers in (alone, together, rows):
        assert [answer.ids for answer in answers] == wanted
        assert [answer.text for answer in answers] == [
            source.tokenizer.decode(ids, skip_special_tokens=True) for ids in wanted
        ]
    end = source.model.generation_config.eos_token_id
    assert [a.reason for a in together] == ["stop" if w[-1] == end else "length" for w in wanted]
    assert len({tuple(ids) for ids in wanted}) > len(wanted) // 2


def test_samples_of_text_to_text_depend_on_the_seed_alone(server: str) -> None:
    request = {"TEXT": PROMPTS[2], "MAX_TOKENS": TOKENS, "TEMPERATURE": 1.5, "TOP_K": 50}
    alone = infer_all(server, "t5", [{**request, "SEED": 7}])[0]
    crowd = infer_all(server, "t5", [{**request, "SEED": seed} for seed in range(4, 12)])
    assert crowd[3].ids == alone.ids
    assert len({tuple(answer.ids) for answer in crowd}) == len(crowd)


def test_bad_options_of_text_to_text(server: str) -> None:
    with pytest.raises(InferenceServerException, match="MAX_TOKENS is 1000; it must be 1 to 256"):
        infer_all(server, "t5", [{"TEXT": "a", "MAX_TOKENS": 1000}])


def test_speech_to_text_is_that_of_generate(server: str, checkpoints: Path) -> None:
    folder = checkpoints / "whisper"
    model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    extractor = WhisperFeatureExtractor.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rng = np.random.default_rng(0)
    sounds = [(rng.normal(size=size) * 0.1).astype(np.float32) for size in (16000, 9000, 400)]
    wanted = []
    for sound in sounds:
        features = extractor(sound, sampling_rate=16000, return_tensors="pt").input_features
        with torch.inference_mode():
            output = model.generate(features, max_new_tokens=TOKENS, do_sample=False)
        wanted.append(output[0].tolist())
    requests = [{"AUDIO": sound.tolist(), "MAX_TOKENS": TOKENS} for sound in sounds]
    alone = [infer_all(server, "whisper", [request], "TEXT")[0] for request in requests]
    together = infer_all(server, "whisper", requests, "TEXT")
    for answers in (alone, together):
        assert [answer.ids for answer in answers] == wanted
        assert [answer.text for answer in answers] == [
            tokenizer.decode(ids, skip_special_tokens=True) for ids in wanted
        ]
    with pytest.raises(InferenceServerException, match=r"AUDIO has 1\.0 seconds at 16000 Hz; at"):
        infer_all(server, "whisper", [{"AUDIO": [0.0] * 16001}], "TEXT")


@pytest.mark.parametrize(
    ("model", "required"), [("t5", {"TEXT"}), ("marian", {"TEXT"}), ("whisper", {"AUDIO"})]
)
def test_every_subset_of_the_inputs_is_answered(
    running: TritonServer, model: str, required: set[str]
) -> None:
    assert count_answers(running, model, required) == (64, 64)


def test_bench_of_text_generation(server: str) -> None:
    plan = Plan(models=["llama"], concurrencies=[1], interval_ms=1000, max_tokens=4)
    (measurement,) = run(plan, server, lambda text: None)
    assert measurement.throughput > 0 and measurement.latency_of == "first response"

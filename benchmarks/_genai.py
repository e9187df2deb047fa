"""The text half of the benchmark's model in onnxruntime-genai, beside our graph and session.

onnxruntime-genai is no dependency of this project; for this baseline put it into a folder:

    pip install --no-deps --target DIR onnxruntime-genai==0.18.0

Neither side's scheduler takes part: B prompts of equal length, a prefill and N - 1 greedy steps.
"""

import importlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from benchmarks._language_model import PROMPT_TOKENS, VOCABULARY
from builder.runtime.models.language.decoder import Decoder
from builder.runtime.models.language.session import SessionSettings

Ids = NDArray[np.int32]
Run = tuple[float, list[list[int]]]
"""Seconds of a whole answer, and its tokens."""


class Genai:
    """An fp32 Qwen2 as onnxruntime-genai's own builder makes it."""

    def __init__(self, packages: Path, model: Any, folder: Path, threads: int) -> None:
        """Convert the weights, in a process of its own, and load the result."""
        sys.path.append(str(packages))
        self._genai: Any = importlib.import_module("onnxruntime_genai")
        source, made = folder / "qwen2", folder / "genai"
        save_text_half(model, source)
        builder = f"import sys; sys.path.append({str(packages)!r}); import runpy;" + (
            "runpy.run_module('onnxruntime_genai.models.builder', run_name='__main__')"
        )
        options = ["-i", str(source), "-o", str(made), "-p", "fp32", "-e", "cpu"]
        with tempfile.TemporaryDirectory() as cache:
            subprocess.run(
                [sys.executable, "-c", builder, *options, "-c", cache],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        path = made / "genai_config.json"
        config = json.loads(path.read_text())
        config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
        path.write_text(json.dumps(config))
        self._model = self._genai.Model(str(made))

    def __call__(self, prompts: Ids, tokens: int) -> Run:
        """Answer int32 [B, T]."""
        rows, length = prompts.shape
        parameters = self._genai.GeneratorParams(self._model)
        total = length + tokens
        parameters.set_search_options(
            max_length=total, min_length=total, batch_size=rows, do_sample=False
        )
        start = time.perf_counter()
        generator = self._genai.Generator(self._model, parameters)
        generator.append_tokens(prompts)
        for _ in range(tokens):
            generator.generate_next_token()
        seconds = time.perf_counter() - start
        answers = [list(map(int, generator.get_sequence(row)[length:])) for row in range(rows)]
        return seconds, answers


class Bare:
    """Our decoder without the engine."""

    def __init__(self, path: Path, rows: int, threads: int) -> None:
        """Load it."""
        self._decoder = Decoder(path, rows, PROMPT_TOKENS + 256, SessionSettings(threads))

    def __call__(self, prompts: Ids, tokens: int) -> Run:
        """Answer int32 [B, T]."""
        rows, length = prompts.shape
        ahead = np.broadcast_to(np.arange(length), (1, 3, length))
        start = time.perf_counter()
        first = [
            self._decoder.step(row, prompts[row : row + 1].astype(np.int64), ahead,
                               np.array([length], dtype=np.int32))[0, -1].argmax()
            for row in range(rows)
        ]  # fmt: skip
        answers = [np.array(first)]
        for place in range(length, length + tokens - 1):
            logits = self._decoder.step(
                0,
                answers[-1][:, None].astype(np.int64),
                np.full((rows, 3, 1), place),
                np.full(rows, place + 1, dtype=np.int32),
            )
            answers.append(logits[:, 0].argmax(-1))
        seconds = time.perf_counter() - start
        return seconds, np.stack(answers, axis=1).tolist()


def save_text_half(model: Any, folder: Path) -> None:
    """As a Qwen2 checkpoint; in text alone all three positions of M-RoPE are the same."""
    text = model.config.text_config
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=text.hidden_size,
        intermediate_size=text.intermediate_size,
        num_hidden_layers=text.num_hidden_layers,
        num_attention_heads=text.num_attention_heads,
        num_key_value_heads=text.num_key_value_heads,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        max_position_embeddings=1024,
    )
    half = Qwen2ForCausalLM(config)
    half.model.load_state_dict(model.model.language_model.state_dict())
    half.save_pretrained(folder)
    # The builder looks for it at the old place, and takes 10,000 without a word where it is not.
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "rope_theta": 1e6}))
    words = {f"t{token}": token for token in range(VOCABULARY)}
    special = {"bos_token": "t1", "eos_token": "t2", "pad_token": "t0", "unk_token": "t0"}
    tokenizer = Tokenizer(models.WordLevel(words, special["unk_token"]))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def compare(
    packages: Path, model: Any, folder: Path, runs: int, threads: int
) -> list[tuple[str, float, float, float]]:
    """Case, genai's tokens a second, ours (medians), and the share of equal tokens.

    Random weights have near ties: where two graphs round differently, what follows differs too.

    Args:
        packages: Where onnxruntime-genai is.
        model: The benchmark's model.
        folder: Holds `fp32/decoder.onnx`; a place to write to.
        runs: How often each side is timed, in turn.
        threads: Of both.
    """
    rng = np.random.default_rng(3)
    genai = Genai(packages, model, folder, threads)
    ours = Bare(folder / "fp32" / "decoder.onnx", 16, threads)
    found = []
    for case, rows, tokens in (("one-stream", 1, 32), ("batch-16", 16, 16)):
        prompts = rng.integers(10, VOCABULARY, (rows, PROMPT_TOKENS)).astype(np.int32)
        seconds: dict[str, list[float]] = {"genai": [], "ours": []}
        answers: dict[str, list[list[int]]] = {}
        for _ in range(runs):
            for name, side in (("genai", genai), ("ours", ours)):
                taken, answers[name] = side(prompts, tokens)
                seconds[name].append(taken)
        rates = {name: rows * tokens / float(np.median(seconds[name])) for name in seconds}
        same = float(np.mean(np.array(answers["genai"]) == np.array(answers["ours"])))
        found.append((f"{case}-fp32-vs-genai", rates["genai"], rates["ours"], same))
    return found

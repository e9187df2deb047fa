"""Triton Python model: the encoder's states in, text out; requests of a batch run together."""

import json
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ..common.settings import missing_input, read_settings, required_inputs
from ..language.options import GenerationOptions, OptionError
from ..language.session import instance_device
from .loop import Row, generate
from .seq2seq_settings import Seq2SeqSettings
from .steps import CachedDecoder

_INT_LIMIT = 2**31 - 1


def _tensor(request: Any, name: str) -> NDArray[Any] | None:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


class TritonPythonModel:
    """Greedy or sampled answers over a KV cache."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load tokenizer, rules and graphs."""
        config = json.loads(args["model_config"])
        settings = self._settings = read_settings(Seq2SeqSettings, config)
        folder = Path(args["model_repository"]) / args["model_version"]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._required = required_inputs(config)
        threads = settings.intra_op_thread_count
        self._decoder = CachedDecoder(folder, threads, instance_device(args))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer all requests in one batch; one bad request does not fail the others."""
        responses: list[Any] = [None] * len(requests)
        good: list[tuple[int, list[GenerationOptions]]] = []
        for place, request in enumerate(requests):
            try:
                good.append((place, self._options(request)))
            except OptionError as error:
                refusal = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
                responses[place] = pb_utils.InferenceResponse(error=refusal)
        if good:
            states, mask = _joined([requests[place] for place, _ in good])
            options = [each for _, several in good for each in several]
            rows = generate(self._decoder, self._settings.rules, states, mask, options)
            for place, several in good:
                responses[place] = self._response(rows[: len(several)])
                rows = rows[len(several) :]
        return responses

    def _options(self, request: Any) -> list[GenerationOptions]:
        """The options of each row of a request."""
        for name in self._required:
            if _tensor(request, name) is None:
                raise OptionError(missing_input(name))
        states = _tensor(request, "encoder_hidden_states")
        assert states is not None
        count = len(states)

        def column(name: str, default: float) -> list[Any]:
            found = _tensor(request, name)
            return [default] * count if found is None else found.reshape(-1).tolist()

        columns = zip(
            column("MAX_TOKENS", self._settings.default_max_tokens),
            column("TEMPERATURE", 0.0),
            column("TOP_P", 1.0),
            column("TOP_K", 0),
            column("SEED", secrets.randbelow(_INT_LIMIT)),
            column("REPETITION_PENALTY", 1.0),
            strict=True,
        )
        options = [
            GenerationOptions(
                max_tokens=tokens,
                temperature=temperature,
                top_p=top_p,
                top_k=top_k,
                seed=seed,
                repetition_penalty=penalty,
            )
            for tokens, temperature, top_p, top_k, seed, penalty in columns
        ]
        for each in options:
            each.check(self._settings.max_tokens)
        return options

    def _response(self, rows: list[Row]) -> Any:
        texts = self._tokenizer.decode_batch([row.tokens for row in rows], skip_special_tokens=True)
        longest, pad = max(len(row.tokens) for row in rows), self._settings.pad_token_id
        ids = np.full((len(rows), longest), pad, dtype=np.int32)
        for place, row in enumerate(rows):
            ids[place, : len(row.tokens)] = row.tokens
        outputs: dict[str, NDArray[Any]] = {
            "GENERATED_TEXT": np.array([[text.encode()] for text in texts], dtype=np.object_),
            "TOKEN_IDS": ids,
            "FINISH_REASON": np.array([[row.reason.encode()] for row in rows], dtype=np.object_),
            "COMPLETION_TOKENS": np.array([[len(row.tokens)] for row in rows], dtype=np.int32),
        }
        return pb_utils.InferenceResponse([pb_utils.Tensor(k, v) for k, v in outputs.items()])


def _joined(requests: list[Any]) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
    """States fp32 [B, S, D] and mask int64 [B, S] of all requests; Triton joins equal shapes."""
    states = [_tensor(request, "encoder_hidden_states") for request in requests]
    masks = [_tensor(request, "attention_mask") for request in requests]
    joined = np.concatenate([each for each in states if each is not None])
    if masks[0] is None:
        return joined, None
    return joined, np.concatenate([each for each in masks if each is not None])

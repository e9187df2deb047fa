"""Triton Python model: texts in, the graph's answers out; the graph is asked in full batches.

Triton's batcher joins requests of equal shape only, and hands a batch over as soon as the next
request has another shape; requests with token ids of unequal length so mostly run alone. Requests
with texts are all of one shape: this stage gets them joined, tokenizes each text, and asks the
graph for batches of about equal length (business logic scripting,
https://github.com/triton-inference-server/python_backend#business-logic-scripting).
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

from ..common.settings import missing_input, read_settings
from ..tokenize.texts import TextEncoder, TextError, decoded_texts, padded
from .groups import groups
from .join_settings import JoinSettings


class TritonPythonModel:
    """Tokenizes, joins and splits again."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read tensors and settings from the model config."""
        config = json.loads(args["model_config"])
        settings = self._settings = read_settings(JoinSettings, config)
        folder = Path(args["model_repository"]) / args["model_version"]
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._encoder = TextEncoder(
            tokenizer,
            settings.sequence_buckets,
            settings.pad_token_id,
            truncate=settings.truncate,
        )
        self._answers = [tensor["name"] for tensor in config["output"]]
        self._inputs = [tensor["name"] for tensor in config["input"]]

    async def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request; one bad request does not fail its batch."""
        responses: list[Any] = [None] * len(requests)
        rows: list[Any] = []
        spans: list[tuple[int, int, int]] = []  # request, first row, end
        for place, request in enumerate(requests):
            try:
                new = self._rows(request)
            except TextError as error:
                responses[place] = _refusal(str(error), pb_utils.TritonError.INVALID_ARG)
                continue
            spans.append((place, len(rows), len(rows) + len(new)))
            rows += new
        if not rows:
            return responses
        answers: list[Any] = [None] * len(rows)
        lengths = [len(row.ids) for row in rows]
        settings = self._settings
        batches = groups(
            lengths,
            settings.sequence_buckets[-1],
            settings.model_max_batch_size,
            settings.batch_tokens,
        )
        await asyncio.gather(*(self._ask(rows, *batch, answers) for batch in batches))
        for place, start, end in spans:
            responses[place] = self._response(answers[start:end])
        return responses

    def _rows(self, request: Any) -> list[Any]:
        texts, *pairs = (_texts(request, name) for name in self._inputs)
        if texts is None:
            raise TextError(missing_input(self._inputs[0]))
        seconds = pairs[0] if pairs and pairs[0] is not None else [None] * len(texts)
        return [
            self._encoder.encoding(text, pair or None)
            for text, pair in zip(texts, seconds, strict=True)
        ]

    async def _ask(self, rows: list[Any], places: list[int], width: int, answers: Any) -> None:
        """Run one batch; its rows, or what went wrong, go into `answers`."""
        settings, raws = self._settings, self._settings.model_outputs
        found = padded([rows[place] for place in places], width, settings.pad_token_id)
        question = pb_utils.InferenceRequest(
            model_name=settings.model,
            model_version=settings.model_version,
            requested_output_names=list(raws),
            inputs=[pb_utils.Tensor(name, found[name]) for name in settings.model_inputs],
        )
        answer = await question.async_exec()
        if answer.has_error():
            for place in places:
                answers[place] = answer.error().message()
            return
        tensors = [pb_utils.get_output_tensor_by_name(answer, name).as_numpy() for name in raws]
        for row, place in enumerate(places):
            answers[place] = [tensor[row : row + 1] for tensor in tensors]

    def _response(self, rows: list[Any]) -> Any:
        failed = next((row for row in rows if isinstance(row, str)), None)
        if failed is not None:
            return _refusal(failed, pb_utils.TritonError.INTERNAL)
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(name, np.concatenate([row[place] for row in rows]))
                for place, name in enumerate(self._answers)
            ]
        )


def _refusal(text: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, code))


def _texts(request: Any, name: str) -> Any:
    """The texts of an input; None where the request leaves it out."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else decoded_texts(tensor.as_numpy(), name)

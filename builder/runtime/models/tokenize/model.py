"""Triton Python model: texts in, padded token ids (and what later stages need of them) out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

from ..common.settings import config_values, missing_input
from .texts import TextEncoder, TextError, decoded_texts
from .windows import WindowEncoder


def _encoder(value: dict[str, str], tokenizer: Tokenizer) -> TextEncoder | WindowEncoder:
    buckets = [int(bucket) for bucket in value["sequence_buckets"].split(",")]
    pad, truncate = int(value["pad_token_id"]), value["long_text"] == "truncate"
    if "window_stride" not in value:
        return TextEncoder(tokenizer, buckets, pad, truncate=truncate)
    return WindowEncoder(
        tokenizer,
        buckets,
        pad,
        truncate=truncate,
        stride=int(value["window_stride"]),
        max_windows=int(value["max_windows"]),
        cls_token_id=int(value["cls_token_id"]) if value["cls_token_id"] else None,
    )


class TritonPythonModel:
    """Tokenizes and pads; refuses bad input with one sentence."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read tensors and settings from the model config."""
        config = json.loads(args["model_config"])
        value = config_values(config)
        folder = Path(args["model_repository"]) / args["model_version"]
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._encoder = _encoder(value, tokenizer)
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request on its own; one bad request does not fail its batch."""
        responses = []
        for request in requests:
            try:
                responses.append(self._tokenize(request))
            except TextError as error:
                refusal = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
                responses.append(pb_utils.InferenceResponse(error=refusal))
        return responses

    def _tokenize(self, request: Any) -> Any:
        texts, *pairs = (_texts(request, name) for name in self._inputs)
        if texts is None:
            raise TextError(missing_input(self._inputs[0]))
        found = self._encoder.tensors(texts, pairs[0] if pairs else None)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, np.ascontiguousarray(found[name])) for name in self._outputs]
        )


def _texts(request: Any, name: str) -> Any:
    """The texts of an input; None where the request leaves it out."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else decoded_texts(tensor.as_numpy(), name)

"""Triton Python model: texts in, padded token ids (and what later stages need of them) out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

from ..common.settings import config_values, missing_input, read_settings
from .texts import TextEncoder, TextError, decoded_texts
from .tokenize_settings import TokenizeSettings, WindowSettings
from .windows import WindowEncoder


def _encoder(config: dict[str, Any], tokenizer: Tokenizer) -> TextEncoder | WindowEncoder:
    if "window_stride" not in config_values(config):
        settings = read_settings(TokenizeSettings, config)
        return TextEncoder(
            tokenizer,
            settings.sequence_buckets,
            settings.pad_token_id,
            truncate=settings.truncate,
        )
    windows = read_settings(WindowSettings, config)
    return WindowEncoder(
        tokenizer,
        windows.sequence_buckets,
        windows.pad_token_id,
        truncate=windows.truncate,
        stride=windows.window_stride,
        max_windows=windows.max_windows,
        cls_token_id=windows.cls_token_id,
    )


class TritonPythonModel:
    """Tokenizes and pads; refuses bad input with one sentence."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read tensors and settings from the model config."""
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._encoder = _encoder(config, tokenizer)
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

"""Triton Python model: TEXT in, input_ids and attention_mask out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

from .texts import TextEncoder, TextError


class TritonPythonModel:
    """Tokenizes and pads; refuses bad input with one sentence."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings from the model config's parameters."""
        config = json.loads(args["model_config"])
        value = {name: entry["string_value"] for name, entry in config["parameters"].items()}
        folder = Path(args["model_repository"]) / args["model_version"]
        self._encoder = TextEncoder(
            Tokenizer.from_file(str(folder / "tokenizer.json")),
            [int(bucket) for bucket in value["sequence_buckets"].split(",")],
            int(value["pad_token_id"]),
            truncate=value["long_text"] == "truncate",
        )

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
        array = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        try:
            texts = [item.decode("utf-8") for item in array.reshape(-1)]
        except UnicodeDecodeError as error:
            raise TextError(f"TEXT is not valid UTF-8 (byte {error.start})") from error
        ids, mask = self._encoder.encode(texts)
        outputs = {"input_ids": ids, "attention_mask": mask}
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, np.ascontiguousarray(value)) for name, value in outputs.items()]
        )

"""Triton Python model: encoded picture and question in, pixels and token ids out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from .grids import nearest_grid, parse_grids
from .image import ImageError, decode, to_pixels
from .prompt import PromptEncoder, PromptError


class TritonPythonModel:
    """Decodes, bounds, resizes and tokenizes; refuses bad input with one sentence."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings from the model config's parameters."""
        config = json.loads(args["model_config"])
        value = {name: entry["string_value"] for name, entry in config["parameters"].items()}
        self._grids = parse_grids(value["grids"])
        self._cell = int(value["cell_size"])
        self._max_pixels = int(value["max_image_pixels"])
        folder = Path(args["model_repository"]) / args["model_version"]
        self._prompts = PromptEncoder(
            folder / "tokenizer.json",
            value["prompt_prefix"],
            value["prompt_suffix"],
            int(value["max_query_tokens"]),
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request on its own; one bad request does not fail its batch."""
        responses = []
        for request in requests:
            try:
                responses.append(self._preprocess(request))
            except (ImageError, PromptError) as error:
                # On a stream Triton sends the sentence alone: the status goes into it.
                text = f"INVALID_ARGUMENT: {error}"
                refusal = pb_utils.TritonError(text, pb_utils.TritonError.INVALID_ARG)
                responses.append(pb_utils.InferenceResponse(error=refusal))
        return responses

    def _preprocess(self, request: Any) -> Any:
        image = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy()
        prompt = pb_utils.get_input_tensor_by_name(request, "PROMPT").as_numpy()
        if image.size != 1 or prompt.size != 1:
            raise PromptError(
                f"one picture and one question a request: IMAGE has {image.size} elements, "
                f"PROMPT {prompt.size}"
            )
        question = self._prompts.encode(prompt.reshape(-1)[0])
        picture = decode(image.reshape(-1)[0], self._max_pixels)
        rows, cols = nearest_grid(self._grids, picture.size)
        pixels = to_pixels(picture, rows * self._cell, cols * self._cell)
        query = np.zeros((1, self._prompts.max_query_tokens), dtype=np.int32)
        query[0, : len(question.query_ids)] = question.query_ids
        length = np.array([[len(question.query_ids)]], dtype=np.int32)
        outputs = {
            "pixels": pixels[None],
            "query_ids": query,
            "query_length": length,
            "prompt_ids": np.array([question.prompt_ids], dtype=np.int32),
        }
        return pb_utils.InferenceResponse([pb_utils.Tensor(k, v) for k, v in outputs.items()])

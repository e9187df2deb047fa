"""Triton Python model: encoded picture and question in, pixels and token ids out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from ..common.settings import read_settings
from .grids import nearest_grid, parse_grids
from .image import ImageError, check_count, decode_all, to_pixels
from .preprocess_settings import PreprocessSettings
from .prompt import PromptEncoder, PromptError


class TritonPythonModel:
    """Decodes, bounds, resizes and tokenizes; refuses bad input with one sentence."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings from the model config's parameters."""
        config = json.loads(args["model_config"])
        settings = self._settings = read_settings(PreprocessSettings, config)
        self._grids = parse_grids(settings.grids)
        folder = Path(args["model_repository"]) / args["model_version"]
        self._prompts = PromptEncoder(
            folder / "tokenizer.json",
            settings.prompt_prefixes,
            settings.prompt_suffix,
            settings.max_query_tokens,
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
        settings = self._settings
        image = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy()
        prompt = pb_utils.get_input_tensor_by_name(request, "PROMPT").as_numpy()
        if image.shape[0] != 1 or prompt.size != 1:
            raise PromptError(
                f"one question a request: IMAGE has a batch of {image.shape[0]}, PROMPT has "
                f"{prompt.size} elements"
            )
        check_count(image.size, settings.max_pictures)
        question = self._prompts.encode(prompt.reshape(-1)[0], image.size)
        pictures = decode_all(list(image.reshape(-1)), settings.max_image_pixels)
        rows, cols = nearest_grid(self._grids, [picture.size for picture in pictures])
        height, width = rows * settings.cell_size, cols * settings.cell_size
        arrays = [to_pixels(picture, height, width) for picture in pictures]
        query = np.zeros((1, self._prompts.max_query_tokens), dtype=np.int32)
        query[0, : len(question.query_ids)] = question.query_ids
        length = np.array([[len(question.query_ids)]], dtype=np.int32)
        outputs = {
            # Without a dim for pictures where there is one at most.
            "pixels": arrays[0][None] if settings.max_pictures == 1 else np.stack(arrays)[None],
            "query_ids": query,
            "query_length": length,
            "prompt_ids": np.array([question.prompt_ids], dtype=np.int32),
        }
        return pb_utils.InferenceResponse([pb_utils.Tensor(k, v) for k, v in outputs.items()])

"""Triton Python model: encoded pictures in, pixels out."""

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from ..common.settings import read_settings
from ..preprocess.image import ImageError, decode
from .pixels_settings import PixelsSettings
from .resize import fit


class TritonPythonModel:
    """Decodes and resizes; refuses bad pictures with one sentence."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings from the model config's parameters."""
        config = json.loads(args["model_config"])
        self._settings = read_settings(PixelsSettings, config)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request on its own; one bad request does not fail its batch."""
        responses = []
        for request in requests:
            pictures = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy().reshape(-1)
            most = self._settings.max_image_pixels
            try:
                rows = [fit(decode(data, most), self._settings) for data in pictures]
            except ImageError as error:
                refusal = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
                responses.append(pb_utils.InferenceResponse(error=refusal))
                continue
            responses.append(
                pb_utils.InferenceResponse([pb_utils.Tensor("pixels", np.stack(rows))])
            )
        return responses

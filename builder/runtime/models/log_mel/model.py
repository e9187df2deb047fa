"""Triton Python model: AUDIO in, input_features out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from ..common.settings import read_settings
from .log_mel_settings import LogMelSettings
from .spectrogram import AudioError, LogMel


class TritonPythonModel:
    """Makes spectrograms; refuses bad audio with one sentence."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings from the model config's parameters."""
        config = json.loads(args["model_config"])
        settings = read_settings(LogMelSettings, config)
        folder = Path(args["model_repository"]) / args["model_version"]
        self._log_mel = LogMel(np.load(folder / "mel_filters.npy"), settings)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request on its own; one bad request does not fail its batch."""
        responses = []
        for request in requests:
            audio = pb_utils.get_input_tensor_by_name(request, "AUDIO").as_numpy()
            try:
                for row in audio:
                    self._log_mel.check(row)
            except AudioError as error:
                refusal = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
                responses.append(pb_utils.InferenceResponse(error=refusal))
                continue
            features = np.stack([self._log_mel(row) for row in audio])
            tensor = pb_utils.Tensor("input_features", np.ascontiguousarray(features))
            responses.append(pb_utils.InferenceResponse([tensor]))
        return responses

"""Triton Python model: logits at the mask in, the best tokens out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

from ..classify.scores import ranked, scores
from ..common.settings import read_settings
from .decode import decoded
from .fill_settings import FillSettings


class TritonPythonModel:
    """Fills the mask in."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings from the model config's parameters."""
        config = json.loads(args["model_config"])
        self._settings = read_settings(FillSettings, config)
        folder = Path(args["model_repository"]) / args["model_version"]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request on its own; one bad request does not fail its batch."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        ids, logits = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in ("input_ids", "logits")
        )
        settings = self._settings
        masks = (ids == settings.mask_token_id).sum(axis=1)
        if (masks != 1).any():
            found = int(masks[masks != 1][0])
            count = f"{found} masks" if found else "no mask"
            mask = settings.mask_token
            text = f"TEXT has {count}; write {mask} exactly once where a word is missing"
            refusal = pb_utils.TritonError(text, pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=refusal)
        places, values = ranked(scores(logits, "softmax"), settings.top_k)
        tokens = np.empty(places.shape, dtype=object)
        sequences = np.empty(places.shape, dtype=object)
        for row, place in np.ndindex(places.shape):
            token = int(places[row, place])
            filled = np.where(ids[row] == settings.mask_token_id, token, ids[row])
            filled = filled[filled != settings.pad_token_id]
            tokens[row, place] = self._text([token], skip_special=False)
            sequences[row, place] = self._text(filled.tolist(), skip_special=True)
        outputs = {
            "TOKENS": tokens,
            "TOKEN_IDS": places.astype(np.int32),
            "SCORES": values,
            "SEQUENCES": sequences,
        }
        return pb_utils.InferenceResponse([pb_utils.Tensor(k, v) for k, v in outputs.items()])

    def _text(self, ids: list[int], *, skip_special: bool) -> bytes:
        return decoded(
            self._tokenizer, ids, skip_special=skip_special, clean_up=self._settings.clean_up_spaces
        ).encode()

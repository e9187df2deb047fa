"""Triton Python model, decoupled: kept visual tokens and prompt in, streamed text out."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from ..common.settings import read_settings
from ..preprocess.grids import parse_grids
from .generation import Generation
from .language_settings import LanguageSettings
from .options import OptionError
from .positions import build_sequence
from .request import read_options
from .response import TritonSink
from .served import EngineModel
from .text import TextStream


def _needed(request: Any, name: str) -> NDArray[Any]:
    """A tensor without its batch dim."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        raise OptionError(f"the input {name} is missing")
    array: NDArray[Any] = tensor.as_numpy()[0]
    return array


def _visual_embeds(request: Any) -> NDArray[np.float32]:
    """[N, (1 + L) * D]: each visual embedding with its L DeepStack features (Qwen3-VL) beside."""
    embeds = _needed(request, "image_embeds")
    if pb_utils.get_input_tensor_by_name(request, "deepstack") is None:
        return embeds
    return np.concatenate((embeds, *_needed(request, "deepstack")), axis=-1)


class TritonPythonModel(EngineModel):
    """The language stage."""

    def initialize(self, args: dict[str, str]) -> None:
        """Start the engine; read what the visual tokens are."""
        super().initialize(args)
        settings = read_settings(LanguageSettings, self.config)
        self._grids = parse_grids(settings.grids)
        self._pruned = settings.prune == "before_vision"
        self._kept_tokens = settings.kept_tokens
        self._image_token = settings.image_token_id

    def _grid(self, relevance: NDArray[np.float32], pictures: int) -> tuple[int, int]:
        """Token cells (rows, cols) of each picture, of a map with one below the other."""
        rows, cols = relevance.shape
        if rows % pictures or (rows // pictures, cols) not in self._grids:
            known = " or ".join(f"{rows}x{cols}" for rows, cols in self._grids)
            raise ValueError(
                f"relevance_map is {rows}x{cols} for {pictures} image placeholders; this "
                f"pipeline has grids of {known}"
            )
        return rows // pictures, cols

    def generation(self, request: Any, sender: Any) -> Generation:
        """A pruned prompt."""
        options = read_options(request, self.default_tokens, self._kept_tokens)
        options.check(self.max_tokens, self._kept_tokens)
        prompt_ids = _needed(request, "prompt_ids")
        self.require_known(prompt_ids, "prompt_ids")
        embeds = _visual_embeds(request)
        relevance = _needed(request, "relevance_map")
        # Indices come most relevant first: a prefix is the choice of a smaller K.
        every = _needed(request, "kept_indices")
        kept = every[: options.visual_tokens].copy()
        pictures = max(int(np.count_nonzero(prompt_ids == self._image_token)), 1)
        grid = self._grid(relevance, pictures)
        cells = relevance.size
        seen = every.size if self._pruned else cells
        if embeds.shape[0] != seen or kept.size == 0 or kept.min() < 0 or kept.max() >= cells:
            raise ValueError(
                f"image_embeds must have {seen} rows and kept_indices must lie within {cells} cells"
            )
        in_place = np.sort(kept)
        sequence = build_sequence(prompt_ids, in_place, grid, self._image_token, pictures)
        self.require_room(sequence.input_ids.size, options)
        sink = TritonSink(
            sender,
            sequence.input_ids.size,
            self.watches,
            request.request_id(),
            {"KEPT_INDICES": kept, "RELEVANCE_MAP": relevance.copy()},
        )
        text = TextStream(self.tokenizer, options.stop)
        own = np.searchsorted(np.sort(every), in_place) if self._pruned else in_place
        return Generation(sequence, embeds[own], options, sink, text)

"""Triton Python model, decoupled: kept visual tokens and prompt in, streamed text out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray
from tokenizers import Tokenizer

from .decoder import Decoder
from .engine import EXTRA_ROWS, BusyError, Engine
from .generation import Generation
from .metrics import TritonMetrics
from .options import OptionError
from .positions import build_sequence
from .request import engine_settings, read_options, session_settings
from .response import TritonSink, refuse
from .text import TextStream
from .watch import Watches


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


class TritonPythonModel:
    """The language stage."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the decoder and start the engine."""
        config = json.loads(args["model_config"])
        value = {name: entry["string_value"] for name, entry in config["parameters"].items()}
        folder = Path(args["model_repository"]) / args["model_version"]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._grids = value["grids"].split(",")
        self._pruned = value["prune"] == "before_vision"
        self._kept_tokens = int(value["kept_tokens"])
        self._image_token = int(value["image_token_id"])
        self._max_tokens = int(value["max_tokens"])
        self._default_tokens = int(value["default_max_tokens"])
        self._max_length = int(value["max_sequence_length"])
        engine = engine_settings(value)
        decoder = Decoder(
            folder / "decoder.onnx",
            engine.slots + EXTRA_ROWS,
            self._max_length,
            session_settings(value, args),
            int(value["kv_cache_tokens"]) or None,
        )
        end_tokens = [int(token) for token in value["end_token_ids"].split(",")]
        self._watches = Watches(pb_utils)
        metrics = TritonMetrics(pb_utils, args["model_name"])
        self._engine = Engine(decoder, end_tokens, engine, pb_utils.Logger.log_error, metrics)

    def execute(self, requests: list[Any]) -> None:
        """Check each request and hand it to the engine; answers are streamed from there."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                if not self._watches.take(request, sender):
                    self._engine.submit(self._generation(request, sender))
            except (OptionError, ValueError) as error:
                refuse(sender, str(error), "INVALID_ARGUMENT")
            except BusyError as error:
                refuse(sender, str(error), "UNAVAILABLE")

    def finalize(self) -> None:
        """Let running answers end."""
        self._engine.stop()
        self._watches.close_all()

    def _grid(self, relevance: NDArray[np.float32], pictures: int) -> tuple[int, int]:
        """Token cells (rows, cols) of each picture, of a map with one below the other."""
        rows, cols = relevance.shape
        if rows % pictures or f"{rows // pictures}x{cols}" not in self._grids:
            raise ValueError(
                f"relevance_map is {rows}x{cols} for {pictures} image placeholders; this "
                f"pipeline has grids of {' or '.join(self._grids)}"
            )
        return rows // pictures, cols

    def _generation(self, request: Any, sender: Any) -> Generation:
        options = read_options(request, self._default_tokens, self._kept_tokens)
        options.check(self._max_tokens, self._kept_tokens)
        prompt_ids = _needed(request, "prompt_ids")
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
        room = self._max_length - sequence.input_ids.size
        if options.max_tokens > room:
            raise OptionError(
                f"the prompt has {sequence.input_ids.size} tokens and MAX_TOKENS is "
                f"{options.max_tokens}; together at most {self._max_length} are allowed"
            )
        sink = TritonSink(
            sender,
            sequence.input_ids.size,
            self._watches,
            request.request_id(),
            {"KEPT_INDICES": kept, "RELEVANCE_MAP": relevance.copy()},
        )
        text = TextStream(self._tokenizer, options.stop)
        own = np.searchsorted(np.sort(every), in_place) if self._pruned else in_place
        return Generation(sequence, embeds[own], options, sink, text)

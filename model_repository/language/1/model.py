"""Triton Python model, decoupled: kept visual tokens and prompt in, streamed text out."""

import json
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray
from tokenizers import Tokenizer

from .decoder import Decoder, SessionSettings
from .engine import EXTRA_ROWS, BusyError, Engine, EngineSettings
from .generation import Generation
from .metrics import TritonMetrics
from .options import GenerationOptions, OptionError, decode_stop
from .positions import build_sequence
from .response import TritonSink, refuse
from .text import TextStream
from .watch import Watches

_INT_LIMIT = 2**31 - 1


def _input(request: Any, name: str) -> NDArray[Any] | None:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy().reshape(-1)


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
        self._grid = (int(value["grid_rows"]), int(value["grid_cols"]))
        self._pruned = value["prune"] == "before_vision"
        self._kept_tokens = int(value["kept_tokens"])
        self._image_token = int(value["image_token_id"])
        self._max_tokens = int(value["max_tokens"])
        self._default_tokens = int(value["default_max_tokens"])
        self._max_length = int(value["max_sequence_length"])
        gpu = args["model_instance_kind"] == "GPU"
        session = SessionSettings(
            intra_op_threads=int(value["intra_op_thread_count"]),
            device_id=int(args["model_instance_device_id"]) if gpu else None,
            spinning=value["spinning"] == "true",
        )
        engine = EngineSettings(
            slots=int(value["slots"]),
            max_waiting=int(value["max_waiting"]),
            prefill_chunk=int(value["prefill_chunk"]),
            draft_tokens=int(value["draft_tokens"]),
        )
        decoder = Decoder(
            folder / "decoder.onnx",
            engine.slots + EXTRA_ROWS,
            self._max_length,
            session,
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
                watch = _input(request, "WATCH")
                if watch is not None and watch.any():
                    self._watches.open(request.request_id(), sender)
                else:
                    self._engine.submit(self._generation(request, sender))
            except (OptionError, ValueError) as error:
                refuse(sender, str(error), "INVALID_ARGUMENT")
            except BusyError as error:
                refuse(sender, str(error), "UNAVAILABLE")

    def finalize(self) -> None:
        """Let running answers end."""
        self._engine.stop()
        self._watches.close_all()

    def _options(self, request: Any) -> GenerationOptions:
        def scalar(name: str, default: float) -> float:
            values = _input(request, name)
            if values is None:
                return default
            if values.size != 1:
                raise OptionError(f"{name} has {values.size} elements; it takes one")
            return values[0].item()  # type: ignore[no-any-return]

        stop = _input(request, "STOP")
        options = GenerationOptions(
            max_tokens=int(scalar("MAX_TOKENS", self._default_tokens)),
            visual_tokens=int(scalar("VISUAL_TOKENS", self._kept_tokens)),
            temperature=float(scalar("TEMPERATURE", 0.0)),
            top_p=float(scalar("TOP_P", 1.0)),
            top_k=int(scalar("TOP_K", 0)),
            seed=int(scalar("SEED", secrets.randbelow(_INT_LIMIT))),
            stop=() if stop is None else decode_stop(list(stop)),
            repetition_penalty=float(scalar("REPETITION_PENALTY", 1.0)),
            logprobs=bool(scalar("LOGPROBS", False)),
            timeout_ms=int(scalar("TIMEOUT_MS", 0)),
        )
        options.check(self._max_tokens, self._kept_tokens)
        return options

    def _generation(self, request: Any, sender: Any) -> Generation:
        options = self._options(request)
        prompt_ids = _needed(request, "prompt_ids")
        embeds = _visual_embeds(request)
        relevance = _needed(request, "relevance_map")
        # Indices come most relevant first: a prefix is the choice of a smaller K.
        every = _needed(request, "kept_indices")
        kept = every[: options.visual_tokens].copy()
        cells = self._grid[0] * self._grid[1]
        seen = every.size if self._pruned else cells
        if embeds.shape[0] != seen or kept.size == 0 or kept.min() < 0 or kept.max() >= cells:
            raise ValueError(
                f"image_embeds must have {seen} rows and kept_indices must lie within {cells} cells"
            )
        in_place = np.sort(kept)
        sequence = build_sequence(prompt_ids, in_place, self._grid, self._image_token)
        room = self._max_length - sequence.input_ids.size
        if options.max_tokens > room:
            raise OptionError(
                f"the prompt has {sequence.input_ids.size} tokens and MAX_TOKENS is "
                f"{options.max_tokens}; together at most {self._max_length} are allowed"
            )
        sink = TritonSink(
            sender,
            sequence.input_ids.size,
            kept,
            relevance.copy(),
            self._watches,
            request.request_id(),
        )
        text = TextStream(self._tokenizer, options.stop)
        rows = np.searchsorted(np.sort(every), in_place) if self._pruned else in_place
        return Generation(sequence, embeds[rows], options, sink, text)

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
from .engine import BusyError, Engine, Generation
from .options import GenerationOptions, OptionError, decode_stop
from .positions import build_sequence
from .text import TextStream

_INT_LIMIT = 2**31 - 1


def _input(request: Any, name: str) -> NDArray[Any] | None:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy().reshape(-1)


_NO_SUMMARY: dict[str, NDArray[Any]] = {
    "FINISH_REASON": np.array([[b""]], dtype=np.object_),
    "PROMPT_TOKENS": np.zeros((1, 1), dtype=np.int32),
    "COMPLETION_TOKENS": np.zeros((1, 1), dtype=np.int32),
    "KEPT_INDICES": np.zeros((1, 0), dtype=np.int32),
    "RELEVANCE_MAP": np.zeros((1, 0, 0), dtype=np.float32),
}


def _response(text: str, ids: list[int], summary: dict[str, NDArray[Any]] = _NO_SUMMARY) -> Any:
    """A response; every one carries every output, an ensemble waits for all of them."""
    outputs = {
        "TEXT": np.array([[text.encode()]], dtype=np.object_),
        "TOKEN_IDS": np.array([ids], dtype=np.int32),
        **summary,
    }
    return pb_utils.InferenceResponse([pb_utils.Tensor(k, v) for k, v in outputs.items()])


class TritonSink:
    """Sends one answer through a response sender."""

    def __init__(
        self,
        sender: Any,
        prompt_tokens: int,
        kept: NDArray[np.int32],
        relevance: NDArray[np.float32],
    ) -> None:
        self._sender = sender
        self._prompt_tokens = prompt_tokens
        self._kept = kept
        self._relevance = relevance

    def send(self, text: str, ids: list[int]) -> None:
        """Stream a piece of the answer."""
        self._sender.send(_response(text, ids))

    def finish(self, text: str, ids: list[int], reason: str, completion_tokens: int) -> None:
        """Send the last response."""
        summary = {
            "FINISH_REASON": np.array([[reason.encode()]], dtype=np.object_),
            "PROMPT_TOKENS": np.array([[self._prompt_tokens]], dtype=np.int32),
            "COMPLETION_TOKENS": np.array([[completion_tokens]], dtype=np.int32),
            "KEPT_INDICES": self._kept[None],
            "RELEVANCE_MAP": self._relevance[None],
        }
        response = _response(text, ids, summary)
        self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def fail(self, message: str) -> None:
        """End the stream with an error."""
        refuse(self._sender, message, "INTERNAL")

    def is_cancelled(self) -> bool:
        """Whether the client has gone away."""
        return bool(self._sender.is_cancelled())


def refuse(sender: Any, message: str, status: str) -> None:
    """End a request with an error of a gRPC status.

    On a stream Triton sends the sentence alone, so it begins with the status.
    """
    codes = {
        "INVALID_ARGUMENT": pb_utils.TritonError.INVALID_ARG,
        "UNAVAILABLE": pb_utils.TritonError.UNAVAILABLE,
        "INTERNAL": pb_utils.TritonError.INTERNAL,
    }
    error = pb_utils.TritonError(f"{status}: {message}", codes[status])
    response = pb_utils.InferenceResponse(error=error)
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


class TritonPythonModel:
    """The language stage."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the decoder and start the engine."""
        config = json.loads(args["model_config"])
        value = {name: entry["string_value"] for name, entry in config["parameters"].items()}
        folder = Path(args["model_repository"]) / args["model_version"]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._grid = (int(value["grid_rows"]), int(value["grid_cols"]))
        self._kept_tokens = int(value["kept_tokens"])
        self._image_token = int(value["image_token_id"])
        self._max_tokens = int(value["max_tokens"])
        self._default_tokens = int(value["default_max_tokens"])
        gpu = args["model_instance_kind"] == "GPU"
        settings = SessionSettings(
            intra_op_threads=int(value["intra_op_thread_count"]),
            device_id=int(args["model_instance_device_id"]) if gpu else None,
        )
        decoder = Decoder(
            folder / "decoder.onnx",
            int(value["slots"]),
            int(value["max_sequence_length"]),
            settings,
        )
        end_tokens = [int(token) for token in value["end_token_ids"].split(",")]
        self._max_length = decoder.max_length
        self._engine = Engine(
            decoder, end_tokens, int(value["max_waiting"]), pb_utils.Logger.log_error
        )

    def execute(self, requests: list[Any]) -> None:
        """Check each request and hand it to the engine; answers are streamed from there."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._engine.submit(self._generation(request, sender))
            except (OptionError, ValueError) as error:
                refuse(sender, str(error), "INVALID_ARGUMENT")
            except BusyError as error:
                refuse(sender, str(error), "UNAVAILABLE")

    def finalize(self) -> None:
        """Let running answers end."""
        self._engine.stop()

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
        )
        options.check(self._max_tokens, self._kept_tokens)
        return options

    def _generation(self, request: Any, sender: Any) -> Generation:
        options = self._options(request)
        prompt_ids = _input(request, "prompt_ids")
        kept = _input(request, "kept_indices")
        embeds = pb_utils.get_input_tensor_by_name(request, "image_embeds").as_numpy()[0]
        relevance = pb_utils.get_input_tensor_by_name(request, "relevance_map").as_numpy()[0]
        assert prompt_ids is not None
        assert kept is not None
        # Indices come most relevant first: a prefix is the choice of a smaller K.
        kept = kept[: options.visual_tokens].copy()
        cells = self._grid[0] * self._grid[1]
        if embeds.shape[0] != cells or kept.size == 0 or kept.min() < 0 or kept.max() >= cells:
            raise ValueError(
                f"image_embeds must have {cells} rows and kept_indices must lie within them"
            )
        in_place = np.sort(kept)
        sequence = build_sequence(prompt_ids, in_place, self._grid, self._image_token)
        room = self._max_length - sequence.input_ids.size
        if options.max_tokens > room:
            raise OptionError(
                f"the prompt has {sequence.input_ids.size} tokens and MAX_TOKENS is "
                f"{options.max_tokens}; together at most {self._max_length} are allowed"
            )
        sink = TritonSink(sender, sequence.input_ids.size, kept, relevance.copy())
        text = TextStream(self._tokenizer, options.stop)
        return Generation(sequence, embeds[in_place], options, sink, text)

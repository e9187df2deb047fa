"""Triton Python model, decoupled: PROMPT or MESSAGES in, streamed text out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

from ..language.decoder import Decoder
from ..language.engine import EXTRA_ROWS, BusyError, Engine
from ..language.generation import Generation
from ..language.metrics import TritonMetrics
from ..language.options import OptionError
from ..language.positions import text_sequence
from ..language.request import engine_settings, flat_input, read_options, session_settings
from ..language.response import TritonSink, refuse
from ..language.text import TextStream
from ..language.watch import Watches
from .chat import ChatTemplate
from .prompt import PromptEncoder, PromptError

_NO_EMBEDS = np.zeros((0, 0), dtype=np.float32)


def _bytes(request: Any, name: str) -> bytes | None:
    values = flat_input(request, name)
    if values is None:
        return None
    if values.size != 1:
        raise PromptError(f"{name} has {values.size} elements; it takes one")
    data: bytes = values[0]
    return data


class TritonPythonModel:
    """A decoder-only language model behind the engine of the language stage."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the decoder and start the engine."""
        config = json.loads(args["model_config"])
        value = {name: entry["string_value"] for name, entry in config["parameters"].items()}
        folder = Path(args["model_repository"]) / args["model_version"]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._max_tokens = int(value["max_tokens"])
        self._default_tokens = int(value["default_max_tokens"])
        self._max_length = int(value["max_sequence_length"])
        chat = folder / "chat_template.json"
        template = ChatTemplate(**json.loads(chat.read_text())) if chat.is_file() else None
        self._prompts = PromptEncoder(self._tokenizer, self._max_length - 1, template)
        engine = engine_settings(value)
        decoder = Decoder(
            folder / "decoder.onnx",
            engine.slots + EXTRA_ROWS,
            self._max_length,
            session_settings(value, args),
            int(value["kv_cache_tokens"]) or None,
        )
        ends = [int(token) for token in value["end_token_ids"].split(",")]
        self._watches = Watches(pb_utils)
        metrics = TritonMetrics(pb_utils, args["model_name"])
        self._engine = Engine(decoder, ends, engine, pb_utils.Logger.log_error, metrics)

    def execute(self, requests: list[Any]) -> None:
        """Check each request and hand it to the engine; answers are streamed from there."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                if not self._watches.take(request, sender):
                    self._engine.submit(self._generation(request, sender))
            except ValueError as error:  # options, prompts and conversations
                refuse(sender, str(error), "INVALID_ARGUMENT")
            except BusyError as error:
                refuse(sender, str(error), "UNAVAILABLE")

    def finalize(self) -> None:
        """Let running answers end."""
        self._engine.stop()
        self._watches.close_all()

    def _generation(self, request: Any, sender: Any) -> Generation:
        options = read_options(request, self._default_tokens)
        options.check(self._max_tokens)
        ids = self._prompts.encode(_bytes(request, "PROMPT"), _bytes(request, "MESSAGES"))
        if ids.size + options.max_tokens > self._max_length:
            raise OptionError(
                f"the prompt has {ids.size} tokens and MAX_TOKENS is {options.max_tokens}; "
                f"together at most {self._max_length} are allowed"
            )
        sink = TritonSink(sender, ids.size, self._watches, request.request_id())
        text = TextStream(self._tokenizer, options.stop)
        return Generation(text_sequence(ids), _NO_EMBEDS, options, sink, text)

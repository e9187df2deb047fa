"""What the Triton models behind the engine share: loading, admission, ending."""

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ..common.settings import read_settings
from .batcher import EXTRA_ROWS, BusyError, ContinuousBatcher
from .decoder import Decoder
from .generation import Generation
from .language_settings import ServedSettings
from .metrics import TritonMetrics
from .options import GenerationOptions, OptionError
from .request import batcher_settings, session_settings
from .response import refuse
from .watch import Watches


class EngineModel:
    """A decoupled model; a subclass says what a request asks (`generation`)."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load tokenizer and decoder and start the engine."""
        self.config = json.loads(args["model_config"])
        settings = read_settings(ServedSettings, self.config)
        self.folder = Path(args["model_repository"]) / args["model_version"]
        self.tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        self.max_tokens = settings.max_tokens
        self.default_tokens = settings.default_max_tokens
        self.max_length = settings.max_sequence_length
        engine = batcher_settings(settings)
        decoder = Decoder(
            self.folder / "decoder.onnx",
            engine.slots + EXTRA_ROWS,
            self.max_length,
            session_settings(settings, args),
            settings.kv_cache_tokens,
        )
        ends = settings.end_token_ids
        self.vocab_size = decoder.vocab_size
        self.watches = Watches(pb_utils)
        metrics = TritonMetrics(pb_utils, args["model_name"])
        self._engine = ContinuousBatcher(decoder, ends, engine, pb_utils.Logger.log_error, metrics)

    def execute(self, requests: list[Any]) -> None:
        """Check each request and hand it to the engine; answers are streamed from there."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                if not self.watches.take(request, sender):
                    self._engine.submit(self.generation(request, sender))
            except ValueError as error:  # options, prompts, tensors: each says what is wrong
                refuse(sender, str(error), "INVALID_ARGUMENT")
            except BusyError as error:
                refuse(sender, str(error), "UNAVAILABLE")

    def is_ready(self) -> bool:
        """What Triton asks from release 26.03 on: without its thread the engine answers nobody."""
        return self._engine.alive

    def finalize(self) -> None:
        """Let running answers end."""
        self._engine.stop()
        self.watches.close_all()

    def generation(self, request: Any, sender: Any) -> Generation:
        """What a request asks.

        Raises:
            ValueError: it can't be answered; the message is for the client.
        """
        raise NotImplementedError

    def require_known(self, ids: NDArray[Any], name: str) -> None:
        """Refuse tokens that the decoder has no embedding of.

        Args:
            ids: Integers, of any shape.
            name: Of the input that they come from.

        Raises:
            OptionError: an id is outside the vocabulary.
        """
        strange = ids[(ids < 0) | (ids >= self.vocab_size)]
        if strange.size:
            raise OptionError(
                f"{name} has the token id {strange[0]}; the model knows 0 to {self.vocab_size - 1}"
            )

    def require_room(self, prompt_tokens: int, options: GenerationOptions) -> None:
        """Refuse a prompt that leaves no room for the answer.

        Raises:
            OptionError: together they are longer than a sequence may be.
        """
        if prompt_tokens + options.max_tokens > self.max_length:
            raise OptionError(
                f"the prompt has {prompt_tokens} tokens and MAX_TOKENS is {options.max_tokens}; "
                f"together at most {self.max_length} are allowed"
            )

"""Triton Python model, decoupled: PROMPT or MESSAGES in, streamed text out."""

import json
from typing import Any

import numpy as np

from ..language.generation import Generation
from ..language.positions import text_sequence
from ..language.request import flat_input, read_options
from ..language.response import TritonSink
from ..language.served import EngineModel
from ..language.text import TextStream
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


class TritonPythonModel(EngineModel):
    """A decoder-only language model behind the engine of the language stage."""

    def initialize(self, args: dict[str, str]) -> None:
        """Start the engine; read the chat template where there is one."""
        super().initialize(args)
        chat = self.folder / "chat_template.json"
        template = ChatTemplate(**json.loads(chat.read_text())) if chat.is_file() else None
        self._prompts = PromptEncoder(self.tokenizer, self.max_length - 1, template)

    def generation(self, request: Any, sender: Any) -> Generation:
        """A prompt or a conversation."""
        options = read_options(request, self.default_tokens)
        options.check(self.max_tokens)
        ids = self._prompts.encode(_bytes(request, "PROMPT"), _bytes(request, "MESSAGES"))
        self.require_known(ids, "the prompt")
        self.require_room(ids.size, options)
        sink = TritonSink(sender, ids.size, self.watches, request.request_id())
        text = TextStream(self.tokenizer, options.stop)
        return Generation(text_sequence(ids), _NO_EMBEDS, options, sink, text)

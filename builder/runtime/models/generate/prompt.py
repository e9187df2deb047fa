"""PROMPT or MESSAGES to token ids, as the checkpoint's tokenizer makes them."""

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from .chat import ChatTemplate

_BYTES_PER_TOKEN = 64
"""A token covers seldom more: longer texts are refused before they are tokenized."""


class PromptError(ValueError):
    """A prompt can't be used; the message is for the client."""


class PromptEncoder:
    """Encodes prompts and conversations."""

    def __init__(
        self, tokenizer: Tokenizer, max_tokens: int, chat: ChatTemplate | None = None
    ) -> None:
        """Set up.

        Args:
            tokenizer: The tokenizer.
            max_tokens: Longest prompt.
            chat: The chat template, where the checkpoint has one.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._chat = chat

    def encode(self, prompt: bytes | None, messages: bytes | None) -> NDArray[np.int64]:
        """Ids of a request, special tokens included.

        Args:
            prompt: PROMPT; None: not given.
            messages: MESSAGES; None: not given.

        Returns:
            int64 [S], S >= 1.

        Raises:
            PromptError, ChatError: not exactly one of them, or one that can't be used.
        """
        if (prompt is None) == (messages is None):
            given = "neither was" if prompt is None else "both were"
            raise PromptError(f"send either PROMPT or MESSAGES; {given} given")
        if prompt is not None:
            text, name = _utf8(prompt, "PROMPT"), "PROMPT"
        else:
            if self._chat is None:
                raise PromptError("the checkpoint has no chat template: send PROMPT, not MESSAGES")
            text, name = self._chat.render(_utf8(messages or b"", "MESSAGES")), "MESSAGES"
        if len(text) > _BYTES_PER_TOKEN * self._max_tokens:
            raise PromptError(
                f"{name} has {len(text)} characters; at most {self._max_tokens} tokens are allowed"
            )
        # A template writes the special tokens itself.
        ids = self._tokenizer.encode(text, add_special_tokens=name == "PROMPT").ids
        if not ids:
            raise PromptError(f"{name} has no tokens; send some text")
        if len(ids) > self._max_tokens:
            raise PromptError(
                f"{name} has {len(ids)} tokens; at most {self._max_tokens} are allowed"
            )
        return np.array(ids, dtype=np.int64)


def _utf8(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PromptError(f"{name} is not valid UTF-8 (byte {error.start})") from error

"""Questions to token ids, in the checkpoint's chat format."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer


class PromptError(ValueError):
    """The question can't be used; the message is for the client."""


@dataclass(frozen=True)
class Prompt:
    """A question, tokenized.

    Attributes:
        prompt_ids: The whole chat-formatted prompt with an image placeholder for each picture.
        query_ids: The question alone.
    """

    prompt_ids: list[int]
    query_ids: list[int]


class PromptEncoder:
    """Encodes questions between a prefix and a suffix of the chat format.

    The question is encoded apart from them and with special tokens as plain text, so that no
    question can close its own turn or bring a picture placeholder.
    """

    def __init__(
        self, tokenizer: Path, prefixes: Sequence[str], suffix: str, max_query_tokens: int
    ) -> None:
        """Load a tokenizer.

        Args:
            tokenizer: A `tokenizer.json`.
            prefixes: Chat format up to the question with 1 picture, with 2, and so on.
            suffix: Chat format from the question's end to the start of the answer.
            max_query_tokens: Most tokens that a question may have.
        """
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._prefixes = [self._encode(prefix) for prefix in prefixes]
        self._suffix = self._encode(suffix)
        self._tokenizer.encode_special_tokens = True
        self.max_query_tokens = max_query_tokens

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode(self, question: bytes, pictures: int = 1) -> Prompt:
        """Encode one question.

        Args:
            question: UTF-8.
            pictures: What the question is about: 1 to the number of prefixes.

        Raises:
            PromptError: not UTF-8, empty, or too long.
        """
        try:
            text = question.decode("utf-8")
        except UnicodeDecodeError as error:
            raise PromptError(f"PROMPT is not valid UTF-8 (byte {error.start})") from error
        if not text.strip():
            raise PromptError("PROMPT is empty; ask a question about the picture")
        # A token covers at least one byte but seldom more than 64: don't tokenize megabytes.
        limit = self.max_query_tokens
        query = self._encode(text) if len(question) <= 64 * limit else None
        if query is None or len(query) > limit:
            size = f"{len(question)} bytes" if query is None else f"{len(query)} tokens"
            raise PromptError(f"PROMPT has {size}; at most {limit} tokens are allowed")
        if not query:
            raise PromptError("PROMPT has no tokens; ask a question about the picture")
        return Prompt([*self._prefixes[pictures - 1], *query, *self._suffix], query)

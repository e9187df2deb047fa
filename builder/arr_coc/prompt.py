"""The chat format around a question, taken from the checkpoint's own template."""

from dataclasses import dataclass
from typing import Any

from builder.errors import CheckpointError

_SENTINEL = "QUESTION-7f3a9c"


@dataclass(frozen=True)
class PromptFormat:
    """Text around a question.

    Attributes:
        prefix: Up to the question, one image placeholder included.
        suffix: From the question's end to the start of the answer.
    """

    prefix: str
    suffix: str

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> "PromptFormat":
        """Render the chat template once and cut it at the question.

        Raises:
            CheckpointError: no chat template, or one that changes the question.
        """
        if not tokenizer.chat_template:
            raise CheckpointError("the checkpoint's tokenizer has no chat template")
        content = [{"type": "image"}, {"type": "text", "text": _SENTINEL}]
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        parts = text.split(_SENTINEL)
        if len(parts) != 2:
            raise CheckpointError(
                "the checkpoint's chat template does not hold the question exactly once"
            )
        return cls(*parts)

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
        parts = _render(tokenizer, 1).split(_SENTINEL)
        if len(parts) != 2:
            raise CheckpointError(
                "the checkpoint's chat template does not hold the question exactly once"
            )
        return cls(*parts)

    def prefixes(self, tokenizer: Any, most: int) -> list[str]:
        """The prefix of a prompt with 1 picture, with 2, and so on.

        Two pictures or more are numbered ("Picture 1: ") where the checkpoint's template can, as
        Qwen's does when asked to (`add_vision_id`): a question may then name one of them.

        Args:
            tokenizer: The one that this format was taken from.
            most: Most pictures.

        Raises:
            CheckpointError: the template puts something else behind the question.
        """
        prefixes = [self.prefix]
        for pictures in range(2, most + 1):
            text = _render(tokenizer, pictures, add_vision_id=True)
            prefix, _, suffix = text.partition(_SENTINEL)
            if suffix != self.suffix:
                raise CheckpointError(
                    f"the checkpoint's chat template does not take {pictures} pictures before a "
                    "question; set max_pictures to 1"
                )
            prefixes.append(prefix)
        return prefixes


def _render(tokenizer: Any, pictures: int, **options: bool) -> str:
    content = [{"type": "image"}] * pictures + [{"type": "text", "text": _SENTINEL}]
    text: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=False,
        add_generation_prompt=True,
        **options,
    )
    return text

"""Texts that an artifact is verified with: short, long, empty, and in several scripts."""

from typing import Final

TEXTS: Final = (
    "Triton joins requests into batches.",
    "",
    "How do I serve a sentence encoder to many clients at once?",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    "模型仓库里有配置文件和权重。",
    "a",
    "The dynamic batcher of an inference server holds a request for a moment, in the hope that "
    "others of the same shape arrive, and then runs them all in one pass, which costs little more "
    "than a single one as long as memory bandwidth and not arithmetic is what limits the run.",
    "🙂 emoji & <b>markup</b> \t with\nwhite space   in between",
)

BATCHES: Final = ((0,), (1, 2), (3, 4, 5, 6, 7))
"""Places in `TEXTS` of the batches, of unequal lengths each."""


def long_text(max_tokens: int) -> str:
    """A text that is longer than the longest that is taken."""
    return " ".join(TEXTS) * (1 + max_tokens // 32)

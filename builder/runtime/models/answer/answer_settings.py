"""Settings of the stage `answer`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AnswerSettings:
    """Which answers are allowed.

    Attributes:
        top_k: Most answers, the best first.
        max_answer_tokens: Longest answer.
        impossible: Whether there may be no answer.
    """

    top_k: int
    max_answer_tokens: int
    impossible: bool

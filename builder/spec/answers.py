"""How a task's answer is made from a graph's output; each block belongs to one task."""

from typing import Literal

from pydantic import Field, model_validator

from builder.spec.batching import PositiveInt, Strict


class Entities(Strict):
    """token-classification: how tokens become entities, as in transformers' pipeline."""

    aggregation: Literal["none", "simple", "first", "average", "max"] = Field(
        default="simple",
        description="none: an entity a token; simple: neighbouring tokens of one entity are "
        "joined; first, average, max: whole words, labelled by their first token, by the mean of "
        "the scores or by the highest score, then joined.",
    )
    ignored_labels: list[str] = Field(
        default_factory=lambda: ["O"], description="Labels that are no entity."
    )


class Answers(Strict):
    """question-answering: where an answer may lie, as in transformers' pipeline."""

    max_answer_tokens: PositiveInt = Field(default=15, description="Longest answer, in tokens.")
    impossible: bool = Field(
        default=False, description="Whether the answer may be that there is none (empty ANSWER)."
    )
    stride: PositiveInt | None = Field(
        default=None,
        description="Tokens that two windows of a long context share. null: 128, or half a "
        "window where that is less.",
    )
    max_windows: PositiveInt = Field(
        default=32,
        description="Most windows of one context; what is behind them is left out with "
        "long_text: truncate, and refused with long_text: refuse.",
    )


class ZeroShot(Strict):
    """zero-shot-image-classification: how a label becomes a text."""

    template: str = Field(
        default="This is a photo of {}.", description="The text of a label; {} is the label."
    )
    cached_labels: PositiveInt = Field(
        default=1024, description="Labels whose text vectors are kept between requests."
    )

    @model_validator(mode="after")
    def _has_a_place(self) -> "ZeroShot":
        if self.template.count("{}") != 1:
            raise ValueError("template needs exactly one {} for the label")
        return self

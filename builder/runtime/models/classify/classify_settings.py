"""Settings of the stage `classify`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassifySettings:
    """How logits become labels and scores.

    Attributes:
        labels: Label of each logit.
        function: What makes scores of logits: `softmax`, `sigmoid` or `none`.
        top_k: Labels of an answer, the best first.
    """

    labels: tuple[str, ...]
    function: str
    top_k: int

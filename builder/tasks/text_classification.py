"""Text classifiers: labels and scores, the best first."""

import json
from collections.abc import Mapping

from transformers import AutoModelForSequenceClassification

from builder.render.model_config import Tensor
from builder.tasks.text import TextKind


class TextClassification(TextKind):
    """Any `...ForSequenceClassification`."""

    auto_class = AutoModelForSequenceClassification
    post_stage = "classify"

    @property
    def labels(self) -> list[str]:
        """Label of each logit."""
        config = self.files.config
        return [str(config.id2label[index]) for index in range(config.num_labels)]

    def raw_dims(self) -> tuple[int, ...]:
        """A logit a label."""
        return (len(self.labels),)

    def answer(self) -> tuple[Tensor, ...]:
        """Labels and scores."""
        dims = self.raw_dims()
        return (Tensor("LABELS", "STRING", dims), Tensor("SCORES", "FP32", dims))

    def post_parameters(self) -> Mapping[str, str]:
        """The function is that of transformers' pipeline: sigmoid where labels don't exclude."""
        config = self.files.config
        multi = config.problem_type == "multi_label_classification" or len(self.labels) == 1
        return {
            "labels": json.dumps(self.labels, ensure_ascii=False),
            "multi_label": str(multi).lower(),
        }

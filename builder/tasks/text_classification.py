"""Text classifiers: labels and scores, the best first."""

from typing import Any

from transformers import AutoModelForSequenceClassification

from builder.checkpoint.files import CheckpointFiles
from builder.errors import CheckpointError
from builder.render.model_config import Tensor
from builder.runtime.models.classify.classify_settings import ClassifySettings
from builder.spec.task import TaskSpec
from builder.tasks.samples import TEXTS
from builder.tasks.text import TEXT, TEXT_PAIR, TextTask


def label_names(config: Any) -> tuple[str, ...]:
    """Label of each logit, as a config names them."""
    return tuple(str(config.id2label[index]) for index in range(config.num_labels))


def classify_settings(config: Any, top_k: int) -> ClassifySettings:
    """Settings of the stage `classify`; the function is that of transformers' pipelines."""
    labels = label_names(config)
    if config.problem_type == "regression":
        function = "none"
    elif config.problem_type == "multi_label_classification" or len(labels) == 1:
        function = "sigmoid"
    else:
        function = "softmax"
    return ClassifySettings(labels, function, top_k)


def classify_answer(config: Any, top_k: int) -> tuple[Tensor, ...]:
    """Labels and scores, the best `top_k`."""
    dims = (min(top_k, int(config.num_labels)),)
    return (Tensor("LABELS", "STRING", dims), Tensor("SCORES", "FP32", dims))


class TextClassification(TextTask):
    """Any `...ForSequenceClassification`, over one text or a pair."""

    auto_class = AutoModelForSequenceClassification
    inputs = (TEXT, TEXT_PAIR)
    post_stage = "classify"

    def __init__(self, spec: TaskSpec, files: CheckpointFiles) -> None:
        """Read the tokenizer; an encoder-decoder answers at the eos token.

        Raises:
            CheckpointError: its tokenizer gives none.
        """
        super().__init__(spec, files)
        if not files.config.is_encoder_decoder:
            return
        self.head = "at_end"
        if files.config.eos_token_id not in self.encoder().encoding(TEXTS[0]).ids:
            raise CheckpointError(
                f"{files.source}: {', '.join(files.architectures)} reads its answer at the eos "
                f"token {files.config.eos_token_id}, which its tokenizer adds to no text; save "
                "the tokenizer that it was trained with beside it"
            )

    def raw_dims(self) -> tuple[int, ...]:
        """A logit a label."""
        return (int(self.files.config.num_labels),)

    def _top_k(self) -> int:
        return self.spec.top_k or int(self.files.config.num_labels)

    def answer(self) -> tuple[Tensor, ...]:
        """Labels and scores."""
        return classify_answer(self.files.config, self._top_k())

    def post_settings(self) -> ClassifySettings:
        """Labels and the function over their logits."""
        return classify_settings(self.files.config, self._top_k())

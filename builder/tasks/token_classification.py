"""Token classifiers: entities with their characters."""

from transformers import AutoModelForTokenClassification

from builder.render.model_config import Tensor
from builder.runtime.models.entities.entities_settings import EntitiesSettings
from builder.spec.answers import Entities
from builder.tasks.text import INPUT_IDS, OFFSETS, TEXT, TextTask
from builder.tasks.text_classification import label_names


class TokenClassification(TextTask):
    """Any `...ForTokenClassification`."""

    auto_class = AutoModelForTokenClassification
    per_token = True
    post_stage = "entities"
    post_tokens = (INPUT_IDS, OFFSETS)
    post_texts = (TEXT,)
    post_tokenizer = True

    def raw_dims(self) -> tuple[int, ...]:
        """A logit a token and label."""
        return (-1, int(self.files.config.num_labels))

    def answer(self) -> tuple[Tensor, ...]:
        """How many entities, and each one's label, text, score and characters."""
        return (
            Tensor("COUNT", "INT32", (1,)),
            Tensor("ENTITIES", "STRING", (-1,)),
            Tensor("WORDS", "STRING", (-1,)),
            Tensor("SCORES", "FP32", (-1,)),
            Tensor("STARTS", "INT32", (-1,)),
            Tensor("ENDS", "INT32", (-1,)),
        )

    def post_settings(self) -> EntitiesSettings:
        """Labels and how tokens are joined."""
        options = self.spec.entities or Entities()
        return EntitiesSettings(
            labels=label_names(self.files.config),
            aggregation=options.aggregation,
            ignored_labels=tuple(options.ignored_labels),
            unk_token_id=self.hf_tokenizer.unk_token_id,
        )

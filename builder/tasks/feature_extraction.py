"""Encoders without a head: one vector a token."""

from transformers import AutoModel

from builder.render.model_config import Tensor
from builder.tasks.text import TextTask


class FeatureExtraction(TextTask):
    """The last hidden states; rows behind a text's own tokens are zeros."""

    auto_class = AutoModel
    head = "hidden_states"
    raw_name = "last_hidden_state"
    per_token = True
    optional_weights = ("pooler.",)

    def raw_dims(self) -> tuple[int, ...]:
        """A vector a token."""
        return (-1, int(self.files.config.hidden_size))

    def answer(self) -> tuple[Tensor, ...]:
        """The vectors."""
        return (Tensor("FEATURES", "FP32", self.raw_dims()),)

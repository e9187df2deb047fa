"""Encoders without a head: one vector a token."""

from typing import Any

import torch
from transformers import AutoModel

from builder.render.model_config import Tensor
from builder.tasks.text import TextKind


class FeatureExtraction(TextKind):
    """The last hidden states; rows behind a text's own tokens are zeros."""

    auto_class = AutoModel
    raw_name = "last_hidden_state"
    per_token = True
    optional_weights = ("pooler.",)

    def raw_dims(self) -> tuple[int, ...]:
        """A vector a token."""
        return (-1, int(self.files.config.hidden_size))

    def answer(self) -> tuple[Tensor, ...]:
        """The vectors."""
        return (Tensor("FEATURES", "FP32", self.raw_dims()),)

    def head(self, output: Any, attention_mask: torch.Tensor) -> torch.Tensor:
        """Padding is zeroed, so that a client sees where a text ends."""
        tokens: torch.Tensor = output.last_hidden_state
        return tokens * attention_mask.unsqueeze(-1).to(tokens.dtype)

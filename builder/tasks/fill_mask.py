"""Masked language models: the best tokens for a mask."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn
from transformers import AutoModelForMaskedLM

from builder.errors import CheckpointError
from builder.render.model_config import Tensor
from builder.spec.task import TaskSpec
from builder.tasks.checkpoint import CheckpointFiles
from builder.tasks.samples import TEXTS
from builder.tasks.text import INPUT_IDS, Row, TextKind


class MaskModule(nn.Module):
    """Ids int64 [B, S] -> logits fp32 [B, vocabulary] at the (first) mask of each row.

    The logits of all the other tokens never leave the graph: of 128 tokens and 30,522 words they
    would be 15 MB a text.
    """

    def __init__(self, model: nn.Module, mask_token_id: int) -> None:
        super().__init__()
        self.model = model
        self.mask_token_id = mask_token_id

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits at the mask; without a mask at the first token."""
        logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        place = (input_ids == self.mask_token_id).to(torch.int64).argmax(1)
        index = place[:, None, None].expand(-1, 1, logits.shape[-1])
        found: torch.Tensor = logits.gather(1, index).squeeze(1)
        return found


class FillMask(TextKind):
    """Any `...ForMaskedLM`."""

    auto_class = AutoModelForMaskedLM
    post_stage = "fill"
    post_tokens = (INPUT_IDS,)
    post_tokenizer = True

    def __init__(self, spec: TaskSpec, files: CheckpointFiles) -> None:
        """Read the tokenizer.

        Raises:
            CheckpointError: it has no mask token.
        """
        super().__init__(spec, files)
        if self.hf_tokenizer.mask_token_id is None:
            raise CheckpointError(
                f"{files.source}: its tokenizer has no mask token, which fill-mask needs"
            )
        self.mask_token_id = int(self.hf_tokenizer.mask_token_id)

    def raw_dims(self) -> tuple[int, ...]:
        """A logit a word."""
        return (int(self.files.config.vocab_size),)

    def _top_k(self) -> int:
        return min(self.spec.top_k or 5, int(self.files.config.vocab_size))

    def answer(self) -> tuple[Tensor, ...]:
        """The best tokens, and the text with each of them."""
        dims = (self._top_k(),)
        return (
            Tensor("TOKENS", "STRING", dims),
            Tensor("TOKEN_IDS", "INT32", dims),
            Tensor("SCORES", "FP32", dims),
            Tensor("SEQUENCES", "STRING", dims),
        )

    def post_parameters(self) -> Mapping[str, str]:
        """The mask, and how tokens become text."""
        tokenizer = self.hf_tokenizer
        # transformers leaves byte-level BPE alone even where a tokenizer asks for the clean-up.
        bpe = type(tokenizer.backend_tokenizer.model).__name__ == "BPE"
        clean = bool(tokenizer.clean_up_tokenization_spaces) and not bpe
        return {
            "top_k": str(self._top_k()),
            "mask_token": str(tokenizer.mask_token),
            "mask_token_id": str(self.mask_token_id),
            "pad_token_id": str(self.pad_token_id),
            "clean_up_spaces": str(clean).lower(),
        }

    def module(self, model: nn.Module) -> nn.Module:
        """The model, read at the mask."""
        return MaskModule(model, self.mask_token_id).eval()

    def batches(self) -> Iterator[Sequence[Row]]:
        """Texts with a mask at the start, in the middle and at the end."""
        mask = self.hf_tokenizer.mask_token
        yield [(f"{TEXTS[0]} {mask}.", None)]
        yield [(mask, None), (f"{mask} {TEXTS[6]}", None), (f"{TEXTS[3]} {mask} {TEXTS[4]}", None)]

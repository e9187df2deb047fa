"""Masked language models: the best tokens for a mask."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from transformers import AutoModelForMaskedLM

from builder.checkpoint.files import CheckpointFiles
from builder.errors import CheckpointError
from builder.render.model_config import Tensor
from builder.runtime.models.fill.fill_settings import FillSettings
from builder.spec.task import TaskSpec
from builder.tasks.samples import TEXTS
from builder.tasks.text import INPUT_IDS, Row, TextTask


class FillMask(TextTask):
    """Any `...ForMaskedLM`."""

    auto_class = AutoModelForMaskedLM
    head = "at_mask"
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

    def post_settings(self) -> FillSettings:
        """The mask, and how tokens become text."""
        tokenizer = self.hf_tokenizer
        # transformers leaves byte-level BPE alone even where a tokenizer asks for the clean-up.
        bpe = type(tokenizer.backend_tokenizer.model).__name__ == "BPE"
        clean = bool(tokenizer.clean_up_tokenization_spaces) and not bpe
        return FillSettings(
            top_k=self._top_k(),
            mask_token=str(tokenizer.mask_token),
            mask_token_id=self.mask_token_id,
            pad_token_id=self.pad_token_id,
            clean_up_spaces=clean,
        )

    def head_parameters(self) -> Mapping[str, Any]:
        """Where the model is read."""
        return {"mask_token_id": self.mask_token_id}

    def batches(self) -> Iterator[Sequence[Row]]:
        """Texts with a mask at the start, in the middle and at the end."""
        mask = self.hf_tokenizer.mask_token
        yield [(f"{TEXTS[0]} {mask}.", None)]
        yield [(mask, None), (f"{mask} {TEXTS[6]}", None), (f"{TEXTS[3]} {mask} {TEXTS[4]}", None)]

"""Extractive question answering: a span of the context."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForQuestionAnswering

from builder.checkpoint.files import CheckpointFiles
from builder.errors import CheckpointError, SpecError
from builder.render.model_config import Tensor
from builder.runtime.models.answer.answer_settings import AnswerSettings
from builder.runtime.models.tokenize.tokenize_settings import WindowSettings
from builder.runtime.models.tokenize.windows import WindowEncoder
from builder.spec.answers import Answers
from builder.spec.task import TaskSpec
from builder.tasks.samples import TEXTS, long_text
from builder.tasks.task import Sample
from builder.tasks.text import TextTask, own_tokenizer

QUESTION = Tensor("QUESTION", "STRING", (1,))
CONTEXT = Tensor("CONTEXT", "STRING", (1,))
ANSWERABLE = Tensor("answerable", "INT32", (-1, -1))
OFFSETS = Tensor("offsets", "INT32", (-1, -1, 2))


class QuestionAnswering(TextTask):
    """Any `...ForQuestionAnswering`; a context that is too long becomes several windows."""

    auto_class = AutoModelForQuestionAnswering
    head = "windows"
    inputs = (QUESTION, CONTEXT)
    per_token = True
    post_stage = "answer"
    post_tokens = (ANSWERABLE, OFFSETS)
    post_texts = (CONTEXT,)
    longest_bucket = 384  # that of transformers' pipeline

    def __init__(self, spec: TaskSpec, files: CheckpointFiles) -> None:
        """Read the tokenizer, and how windows overlap.

        Raises:
            CheckpointError: the tokenizer pads on the left.
            SpecError: windows overlap by a whole window.
        """
        super().__init__(spec, files)
        if self.hf_tokenizer.padding_side != "right":
            raise CheckpointError(
                f"{files.source}: its tokenizer pads on the left, which question-answering can't "
                "be built for"
            )
        self.allowed = spec.answers or Answers()
        longest = self.buckets[-1]
        self.stride = self.allowed.stride or min(longest // 2, 128)
        if self.stride >= longest:
            raise SpecError(
                f"answers.stride: {self.stride} tokens is no overlap of windows of {longest}"
            )

    @property
    def raws(self) -> tuple[Tensor, ...]:
        """Logits of the first and of the last token of the answer."""
        return tuple(Tensor(name, "FP32", (-1, -1)) for name in ("start_logits", "end_logits"))

    def _tokens(self) -> tuple[Tensor, ...]:
        return tuple(Tensor(t.name, t.data_type, (-1, -1)) for t in super()._tokens())

    def answer(self) -> tuple[Tensor, ...]:
        """Text, score and characters of the best answers."""
        dims = (self.spec.top_k or 1,)
        return (
            Tensor("ANSWER", "STRING", dims),
            Tensor("SCORE", "FP32", dims),
            Tensor("START", "INT32", dims),
            Tensor("END", "INT32", dims),
        )

    def tokenize_settings(self) -> WindowSettings:
        """Buckets and windows."""
        return WindowSettings(
            **vars(super().tokenize_settings()),
            window_stride=self.stride,
            max_windows=self.allowed.max_windows,
            cls_token_id=self.hf_tokenizer.cls_token_id,
        )

    def post_settings(self) -> AnswerSettings:
        """Which answers are allowed."""
        return AnswerSettings(
            self.spec.top_k or 1, self.allowed.max_answer_tokens, self.allowed.impossible
        )

    def _warmup_dims(self) -> tuple[int, ...]:
        return (1, self.buckets[0])

    def axes(self) -> dict[int, str]:
        """Dims that vary."""
        return {0: "batch", 1: "windows", 2: "sequence"}

    def example(self) -> dict[str, torch.Tensor]:
        """Three windows a row."""
        values = super().example()
        return {name: torch.stack([value] * 3, 1) for name, value in values.items()}

    def windows(self) -> WindowEncoder:
        """The tokenizer stage's own encoder."""
        return WindowEncoder(
            own_tokenizer(self.hf_tokenizer),
            self.buckets,
            self.pad_token_id,
            truncate=True,
            stride=self.stride,
            max_windows=self.allowed.max_windows,
            cls_token_id=self.hf_tokenizer.cls_token_id,
        )

    def pairs(self) -> Iterator[Sequence[tuple[str, str]]]:
        """Questions and contexts: short, of unequal lengths, and of several windows."""
        yield [("Who?", TEXTS[0])]
        yield [("Who?", TEXTS[3]), ("What is limited?", TEXTS[6])]
        yield [("Where is it?", long_text(self.buckets[-1])), ("Who?", TEXTS[2])]

    def samples(self, module: nn.Module) -> Iterable[Sample]:
        """Padded batches, and what the checkpoint says of each window without padding."""
        encoder = self.windows()
        names = [tensor.name for tensor in self.tokens]
        for batch in self.pairs():
            questions, contexts = zip(*batch, strict=True)
            found = encoder.tensors(questions, contexts)
            valid = found["attention_mask"].astype(bool)
            wanted = [np.zeros(valid.shape, np.float32) for _ in self.raws]
            for place in np.ndindex(valid.shape[:2]):
                length = int(valid[place].sum())
                values: dict[str, Any] = {
                    name: torch.from_numpy(found[name][place][None, None, :length].copy())
                    for name in names
                }
                with torch.inference_mode():
                    outputs = module(**values)
                for target, value in zip(wanted, outputs, strict=True):
                    target[place][:length] = value.numpy()[0, 0]
            yield Sample(
                {name: found[name] for name in names},
                {t.name: value for t, value in zip(self.raws, wanted, strict=True)},
                {t.name: valid for t in self.raws},
            )

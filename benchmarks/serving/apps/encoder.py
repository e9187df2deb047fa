"""What the compared servers run: transformers' eager model, mean pooling, L2 norm."""

import os
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer, pipeline

LONGEST = 256
"""Tokens, as `sentence_bert_config.json` of the checkpoint says."""


def _threads() -> None:
    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
    torch.set_num_interop_threads(1)


def _pooled(vectors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask.unsqueeze(-1).to(vectors.dtype)
    mean = (vectors * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
    return torch.nn.functional.normalize(mean, dim=-1)


class Pipeline:
    """`transformers.pipeline`, one text after another."""

    def __init__(self) -> None:
        _threads()
        self._pipe: Any = pipeline(
            "feature-extraction", model=os.environ["BENCH_MODEL"], device="cpu"
        )

    def __call__(self, texts: list[str]) -> list[list[float]]:
        """One vector a text."""
        found = self._pipe(
            texts,
            return_tensors=True,
            tokenize_kwargs={"truncation": True, "max_length": LONGEST},
        )
        return [
            _pooled(row, torch.ones(row.shape[:2], dtype=torch.int64))[0].tolist() for row in found
        ]


class Encoder:
    """Tokenizer and model without the pipeline around: a batch, padded to its longest text."""

    def __init__(self) -> None:
        _threads()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(os.environ["BENCH_MODEL"])
        self._model: Any = AutoModel.from_pretrained(os.environ["BENCH_MODEL"]).eval()

    def __call__(self, texts: list[str]) -> torch.Tensor:
        """One vector a text."""
        tokens = self._tokenizer(
            texts, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
        )
        with torch.inference_mode():
            output = self._model(**tokens)
        return _pooled(output.last_hidden_state, tokens["attention_mask"])

"""The language model in training: several questions about one picture in one sequence.

    <|im_start|>user\\n<|vision_start|> picture <|vision_end|> question 1 ... question Q

Every question is a block of fixed length that sees the picture and itself, at the positions it
would have alone; so the attention bias and the rotary tables are constants, and the picture is
read once for all of its questions. Same weights as the stock layers, checked against them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from .questions import Question
from .tower import attend, attend_gated, rotate
from .vocabulary import END, START, VISION_END, VISION_START

# Tokens of the longest question with its answer, right-padded.
BLOCK = 18
IGNORED = -100
_OPENING = f"{START}user\n{VISION_START}"
_CLOSING = f"{END}\n{START}assistant\n"


@dataclass(frozen=True)
class Layout:
    """Constants of one sequence layout: `questions` blocks after `cells` visual tokens."""

    bias: torch.Tensor
    """[S, S], 0 or -inf, added to the attention scores."""
    cos: torch.Tensor
    """[S, head_dim]."""
    sin: torch.Tensor


def layout(model: Any, rows: int, columns: int, questions: int, opening: int = 4) -> Layout:
    """Bias and rotary tables for a picture of rows x columns cells and its questions."""
    cells = rows * columns
    prefix = opening + cells + 1
    total = prefix + questions * BLOCK
    positions = torch.empty(3, total, dtype=torch.int64)
    positions[:, :opening] = torch.arange(opening)
    positions[0, opening : opening + cells] = opening
    positions[1, opening : opening + cells] = opening + torch.arange(rows).repeat_interleave(
        columns
    )
    positions[2, opening : opening + cells] = opening + torch.arange(columns).repeat(rows)
    after = opening + max(rows, columns)
    positions[:, prefix - 1] = after
    positions[:, prefix:] = after + 1 + torch.arange(BLOCK).repeat(questions)
    block = torch.full((total,), -1)
    block[prefix:] = torch.arange(questions).repeat_interleave(BLOCK)
    causal = torch.ones(total, total, dtype=torch.bool).tril()
    seen = causal & ((block[None, :] == -1) | (block[None, :] == block[:, None]))
    bias = torch.zeros(total, total).masked_fill(~seen, float("-inf"))
    cos, sin = model.model.language_model.rotary_emb(torch.zeros(1), positions[:, None])
    return Layout(bias, cos[0].float(), sin[0].float())


def language_states(
    model: Any,
    embeddings: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    bias: torch.Tensor,
    gate: torch.Tensor | None = None,
) -> torch.Tensor:
    """Last hidden states [B, S, D] of input embeddings [B, S, D].

    `cos`, `sin`: [S, head_dim] or [B, 1, S, head_dim]; `bias` [S, S] is added to the attention
    scores; `gate` [B, S] multiplies the weight of each token as a key.
    """
    x = embeddings
    batch, length, width = x.shape
    text = model.model.language_model
    for layer in text.layers:
        attention = layer.self_attn
        heads, groups = attention.num_heads, attention.num_key_value_groups
        normed = layer.input_layernorm(x)
        query = attention.q_proj(normed).view(batch, length, heads, -1).transpose(1, 2)
        key = attention.k_proj(normed).view(batch, length, heads // groups, -1).transpose(1, 2)
        value = attention.v_proj(normed).view(batch, length, heads // groups, -1).transpose(1, 2)
        cos_, sin_, bias_ = (constant.to(query.dtype) for constant in (cos, sin, bias))
        query = rotate(query, cos_, sin_)
        key = rotate(key, cos_, sin_).repeat_interleave(groups, dim=1)
        value = value.repeat_interleave(groups, dim=1)
        if gate is None:
            mixed = attend(query, key, value, bias_)
        else:
            mixed = attend_gated(query, key, value, bias, gate[:, None, None])
        x = x + attention.o_proj(mixed.transpose(1, 2).reshape(batch, length, width))
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    return text.norm(x)  # type: ignore[no-any-return]


class Encoder:
    """Questions and answers -> token blocks, with a cache of tokenized texts."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._cache: dict[str, list[int]] = {}
        self.opening = self.ids(_OPENING)
        self.vision_end = self.ids(VISION_END)
        self._closing = self.ids(_CLOSING)
        self._end = self.ids(END)

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, special tokens recognized."""
        if text not in self._cache:
            self._cache[text] = self._tokenizer(text, add_special_tokens=False).input_ids
        return self._cache[text]

    def question(self, text: str) -> list[int]:
        """What follows the picture, up to where the answer starts."""
        return self.ids(text) + self._closing

    def block(self, question: Question) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Input ids and targets, int64 [BLOCK] each; only the answer and its end are targets."""
        asked = self.question(question.text)
        answer = self.ids(question.answer) + self._end
        ids = asked + answer[:-1]
        if len(ids) > BLOCK:
            raise ValueError(f"{question.text!r} takes {len(ids)} tokens, a block holds {BLOCK}")
        inputs = np.zeros(BLOCK, np.int64)
        targets = np.full(BLOCK, IGNORED, np.int64)
        inputs[: len(ids)] = ids
        targets[len(asked) - 1 : len(ids)] = answer
        return inputs, targets


def answer_loss(
    model: Any, states: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cross entropy over the answer tokens.

    `states` [B, S, D], `targets` [B, S], `weight` [B] of each row (None: 1). Returns the mean
    loss, and for the supervised places in raster order the predicted ids and the right ones.
    """
    places = targets != IGNORED
    logits = F.linear(states[places], model.model.language_model.embed_tokens.weight).float()
    wanted = targets[places]
    loss = F.cross_entropy(logits, wanted, reduction="none")
    if weight is not None:
        loss = loss * weight[:, None].expand(targets.shape)[places]
    return loss.mean(), logits.argmax(-1), wanted

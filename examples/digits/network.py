"""The trained network: the Qwen2-VL model, two auxiliary heads and the losses of each phase."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .language import Encoder, Layout, answer_loss, language_states, layout
from .palette import COLOURS
from .tower import IGNORED, NOTHING, patches, rotary, tower_states


class Network(nn.Module):
    """Model and heads; the heads say what a token shows, and only training uses them."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model = model
        width = model.config.text_config.hidden_size
        self.heads = nn.Linear(width, NOTHING + 1 + len(COLOURS) + 1)
        encoder = Encoder(tokenizer)
        self._opening = torch.tensor(encoder.opening)
        self._vision_end = torch.tensor(encoder.vision_end)
        self._layouts: dict[tuple[int, int, int], Layout] = {}
        self._tower: Callable[..., torch.Tensor] = tower_states
        self._language: Callable[..., torch.Tensor] = language_states

    def compile_forwards(self) -> None:
        """Compile both forwards: 1.6 times the speed in training, a minute or two to compile."""
        self._tower = torch.compile(tower_states, dynamic=False)
        self._language = torch.compile(language_states, dynamic=False)

    def see(self, pixels: torch.Tensor) -> torch.Tensor:
        """Visual tokens [B, N, D] of pixels uint8 [B, H, W, 3]."""
        visual = self.model.model.visual
        cell = visual.config.patch_size
        cos, sin = rotary(visual, pixels.shape[1] // cell, pixels.shape[2] // cell)
        states = self._tower(visual, patches(pixels, cell), cos, sin)
        merger = visual.merger
        return merger.mlp(merger.ln_q(states))  # type: ignore[no-any-return]

    def token_loss(
        self, tokens: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Cross entropy of digit and colour over the tokens [B, N, D], labels [B, 2, N]."""
        normed = F.layer_norm(tokens, tokens.shape[-1:])
        logits = self.heads(normed).float()
        digit, colour = logits.split([NOTHING + 1, len(COLOURS) + 1], dim=-1)
        loss = F.cross_entropy(digit.flatten(0, 1), labels[:, 0].flatten(), ignore_index=IGNORED)
        loss = loss + F.cross_entropy(
            colour.flatten(0, 1), labels[:, 1].flatten(), ignore_index=IGNORED
        )
        shown = (labels[:, 0] >= 0) & (labels[:, 0] < NOTHING)
        right = (digit.argmax(-1) == labels[:, 0])[shown].float().mean()
        named = (colour.argmax(-1) == labels[:, 1])[shown].float().mean()
        return loss, {"token digit": float(right), "token colour": float(named)}

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Token embeddings of ids."""
        return self.model.model.language_model.embed_tokens(ids)  # type: ignore[no-any-return]

    def question_loss(
        self, tokens: torch.Tensor, ids: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Answer loss with all tokens: tokens [B, N, D], ids and targets [B, Q, BLOCK]."""
        batch, questions, block = ids.shape
        side = math.isqrt(tokens.shape[1])
        key = (side, side, questions)
        if key not in self._layouts:
            self._layouts[key] = layout(self.model, *key)
        constants = self._layouts[key]
        opening = self.embed(self._opening).expand(batch, -1, -1)
        vision_end = self.embed(self._vision_end).expand(batch, -1, -1)
        asked = self.embed(ids.flatten(1))
        sequence = torch.cat((opening, tokens.to(asked.dtype), vision_end, asked), dim=1)
        states = self._language(self.model, sequence, constants.cos, constants.sin, constants.bias)[
            :, -questions * block :
        ]
        loss, said, wanted = answer_loss(self.model, states, targets.flatten(1))
        return loss, {"answer": answer_share(said, wanted)}

    def sequences(self, tokens: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, Layout]:
        """One sequence a question: embeddings [B * Q, S, D] of tokens [B, N, D], ids [B, Q, L]."""
        batch, questions, _ = ids.shape
        side = math.isqrt(tokens.shape[1])
        key = (side, side, 1)
        if key not in self._layouts:
            self._layouts[key] = layout(self.model, *key)
        asked = self.embed(ids.flatten(0, 1))
        opening = self.embed(self._opening).expand(batch * questions, -1, -1)
        vision_end = self.embed(self._vision_end).expand(batch * questions, -1, -1)
        seen = tokens.repeat_interleave(questions, dim=0).to(asked.dtype)
        return torch.cat((opening, seen, vision_end, asked), dim=1), self._layouts[key]

    def gated_loss(
        self,
        tokens: torch.Tensor,
        ids: torch.Tensor,
        targets: torch.Tensor,
        gates: torch.Tensor,
        weight: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Answer loss with gated tokens.

        `gates` [B, Q, N]: 1 or 0 for kept and dropped; `weight` [B, Q]: of each
        question, 1 where None.
        """
        sequence, constants = self.sequences(tokens, ids)
        start, cells = len(self._opening), tokens.shape[1]
        gate = nn.functional.pad(
            gates.flatten(0, 1).float(), (start, sequence.shape[1] - start - cells), value=1.0
        )
        states = self._language(
            self.model, sequence, constants.cos, constants.sin, constants.bias, gate
        )[:, -ids.shape[-1] :]
        loss, said, wanted = answer_loss(
            self.model,
            states,
            targets.flatten(0, 1),
            None if weight is None else weight.flatten(),
        )
        return loss, {"answer": answer_share(said, wanted)}

    def pruned_answers(
        self, tokens: torch.Tensor, ids: torch.Tensor, targets: torch.Tensor, kept: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Said and right ids of the answer tokens with only the cells `kept` [B, Q, K].

        `kept` is in raster order. The tokens keep their positions in the whole picture.
        """
        sequence, constants = self.sequences(tokens, ids)
        start, total = len(self._opening), sequence.shape[1]
        rows = kept.flatten(0, 1)
        count = rows.shape[0]
        before = torch.arange(start).expand(count, -1)
        after = torch.arange(start + tokens.shape[1], total).expand(count, -1)
        place = torch.cat((before, start + rows, after), dim=1)
        sequence = sequence.gather(1, place.unsqueeze(-1).expand(-1, -1, sequence.shape[-1]))
        length = place.shape[1]
        states = self._language(
            self.model,
            sequence,
            constants.cos[place].unsqueeze(1),
            constants.sin[place].unsqueeze(1),
            torch.full((length, length), float("-inf")).triu(1),
        )[:, -ids.shape[-1] :]
        _, said, wanted = answer_loss(self.model, states, targets.flatten(0, 1))
        return said, wanted


def answer_share(said: torch.Tensor, wanted: torch.Tensor) -> float:
    """Share of right answers; answer and end token alternate, and the answer alone counts."""
    return float((said == wanted)[::2].float().mean())

"""Token scores to entities, as transformers' token-classification pipeline makes them.

https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/pipelines/token_classification.py
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

WORDS = ("first", "average", "max")
"""Strategies that label whole words."""


@dataclass(frozen=True)
class Entity:
    """One entity.

    Attributes:
        label: Without its B- or I-, unless the strategy is `none`.
        word: Its text, as the tokenizer spells it.
        score: 0 to 1.
        start: Its first character in the text (Unicode code points).
        end: The character behind its last.
    """

    label: str
    word: str
    score: float
    start: int
    end: int


@dataclass(frozen=True)
class _Token:
    word: str
    scores: NDArray[np.float32]
    start: int
    end: int
    is_subword: bool


class Aggregator:
    """Makes entities of one text's token scores."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        labels: Sequence[str],
        strategy: str,
        ignored: Sequence[str],
        unk_token_id: int | None,
    ) -> None:
        """Set a strategy up.

        Args:
            tokenizer: The tokenizer that made the tokens.
            labels: Label of each logit.
            strategy: `none`, `simple`, `first`, `average` or `max`.
            ignored: Labels that are no entity.
            unk_token_id: The token of unknown words.
        """
        self._tokenizer = tokenizer
        self._labels = labels
        self._strategy = strategy
        self._ignored = frozenset(ignored)
        self._unk = unk_token_id
        self._knows_words = bool(getattr(tokenizer.model, "continuing_subword_prefix", None))

    def entities(
        self,
        text: str,
        ids: NDArray[np.int64],
        offsets: NDArray[np.int32],
        logits: NDArray[np.float32],
    ) -> list[Entity]:
        """Entities in the order of the text.

        Args:
            text: The text.
            ids: [S], padding included.
            offsets: [S, 2], -1 for special tokens and padding.
            logits: [S, labels].
        """
        raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
        scores = raised / raised.sum(axis=-1, keepdims=True)
        tokens = [
            self._token(text, int(ids[place]), offsets[place], scores[place])
            for place in np.flatnonzero(offsets[:, 0] >= 0)
        ]
        if self._strategy in WORDS:
            found = [self._word(word) for word in _words(tokens)]
        else:
            found = [self._labelled(t.word, t.scores, t.start, t.end) for t in tokens]
        if self._strategy != "none":
            found = self._groups(found)
        return [entity for entity in found if entity.label not in self._ignored]

    def _token(
        self, text: str, token: int, offsets: NDArray[np.int32], scores: NDArray[np.float32]
    ) -> _Token:
        start, end = int(offsets[0]), int(offsets[1])
        word, piece = self._tokenizer.id_to_token(token) or "", text[start:end]
        if self._knows_words:
            is_subword = len(word) != len(piece)
        else:
            # A heuristic of transformers, for tokenizers without a mark on what continues a word.
            is_subword = start > 0 and " " not in text[start - 1 : start + 1]
        if token == self._unk:
            word, is_subword = piece, False
        return _Token(word, scores, start, end, is_subword)

    def _labelled(self, word: str, scores: NDArray[Any], start: int, end: int) -> Entity:
        best = int(scores.argmax())
        return Entity(self._labels[best], word, float(scores[best]), start, end)

    def _word(self, tokens: Sequence[_Token]) -> Entity:
        if self._strategy == "first":
            scores = tokens[0].scores
        elif self._strategy == "max":
            scores = max(tokens, key=lambda token: token.scores.max()).scores
        else:
            scores = np.nanmean(np.stack([token.scores for token in tokens]), axis=0)
        word = self._spelled([token.word for token in tokens])
        return self._labelled(word, scores, tokens[0].start, tokens[-1].end)

    def _spelled(self, words: Sequence[str]) -> str:
        decoder = self._tokenizer.decoder
        return str(decoder.decode(list(words))) if decoder is not None else " ".join(words)

    def _groups(self, entities: Sequence[Entity]) -> list[Entity]:
        groups: list[list[Entity]] = []
        for entity in entities:
            begins, tag = _tag(entity.label)
            if groups and not begins and tag == _tag(groups[-1][-1].label)[1]:
                groups[-1].append(entity)
            else:
                groups.append([entity])
        return [
            Entity(
                group[0].label.split("-", 1)[-1],
                self._spelled([entity.word for entity in group]),
                float(np.nanmean([entity.score for entity in group])),
                group[0].start,
                group[-1].end,
            )
            for group in groups
        ]


def _words(tokens: Sequence[_Token]) -> list[list[_Token]]:
    words: list[list[_Token]] = []
    for token in tokens:
        if words and token.is_subword:
            words[-1].append(token)
        else:
            words.append([token])
    return words


def _tag(label: str) -> tuple[bool, str]:
    """Whether a label begins an entity, and of what; one without B- or I- continues."""
    prefixed = label.startswith(("B-", "I-"))
    return label.startswith("B-"), label[2:] if prefixed else label

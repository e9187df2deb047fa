"""Training batches: one item a step, a function of (seed, step) alone, so that a run resumes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from .language import Encoder
from .questions import several
from .scenes import CELL, SIDE, compose, scene_rng
from .tower import cell_labels

# Pictures of one digit, for the first phase.
SMALL_SIDE = 4 * CELL


@dataclass(frozen=True)
class Shape:
    """What a step holds: pictures, digits a picture, questions a picture."""

    pictures: int
    fewest: int
    most: int
    side: int
    questions: int


class Batches(Dataset[dict[str, torch.Tensor]]):
    """Step -> the tensors of one batch.

    `pixels` uint8 [B, H, W, 3], `labels` int64 [B, 2, N]; with questions also `ids` and `targets`
    int64 [B, Q, BLOCK], and `query` [B, Q, L] (the question's own tokens, then anything) with
    `length` [B, Q], and `counting` bool [B, Q]: whether it is one of the counting questions.
    """

    def __init__(self, shape: Shape, seed: int, steps: int, tokenizer: Any) -> None:
        self._shape, self._seed, self._steps = shape, seed, steps
        self._encoder = Encoder(tokenizer)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        shape = self._shape
        pixels, labels, ids, targets = [], [], [], []
        queries: list[list[list[int]]] = []
        counting: list[list[bool]] = []
        for picture in range(shape.pictures):
            rng = scene_rng(self._seed, "train", step * shape.pictures + picture)
            scene = compose(rng, "train", shape.fewest, shape.most, shape.side)
            pixels.append(scene.pixels())
            labels.append(cell_labels(scene))
            if shape.questions:
                asked = several(scene, rng, shape.questions)
                blocks = [self._encoder.block(question) for question in asked]
                ids.append(np.stack([block[0] for block in blocks]))
                targets.append(np.stack([block[1] for block in blocks]))
                queries.append([self._encoder.ids(question.text) for question in asked])
                counting.append([question.kind == "count" for question in asked])
        batch = {"pixels": np.stack(pixels), "labels": np.stack(labels)}
        if shape.questions:
            batch |= {"ids": np.stack(ids), "targets": np.stack(targets)}
            batch["counting"] = np.array(counting)
            length = np.array([[len(query) for query in row] for row in queries])
            batch |= {"length": length, "query": np.stack(ids)[..., : length.max()]}
        return {name: torch.from_numpy(value) for name, value in batch.items()}


ONE_DIGIT = Shape(pictures=128, fewest=1, most=1, side=SMALL_SIDE, questions=0)
SCENES = Shape(pictures=32, fewest=2, most=5, side=SIDE, questions=0)
SINGLE_QUESTIONS = Shape(pictures=16, fewest=2, most=5, side=SIDE, questions=4)
QUESTIONS = Shape(pictures=32, fewest=2, most=5, side=SIDE, questions=6)

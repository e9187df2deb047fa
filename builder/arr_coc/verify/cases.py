"""What artifacts are checked with: pictures on every grid, each with a question."""

import contextlib
import sys
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from builder.arr_coc.reference import Reference
from builder.arr_coc.verify.pictures import QUESTIONS
from builder.errors import SpecError
from builder.runtime.models.preprocess.image import decode, to_pixels
from builder.runtime.models.preprocess.prompt import Prompt, PromptError
from builder.spec.models import Grid

Case = tuple[NDArray[np.uint8], Prompt]
"""Pixels [H, W, 3], or [P, H, W, 3] where a request may have several pictures, and a question."""

ANSWER_TOKENS = 8
"""Tokens of an answer that are compared after the first."""

_MOST_PICTURES = 3
"""Of a case: a graph that takes 1 and 3 pictures takes any number."""


@dataclass(frozen=True)
class Kind:
    """Requests that can share a batch.

    Attributes:
        grid: Of their pictures.
        pictures: Of each request; None where a request has one and its tensors no dim for more.
        label: What to add to a tensor's name; empty where there is one kind only.
    """

    grid: Grid
    pictures: int | None = None
    label: str = ""


def _prompt(reference: Reference, question: str, pictures: int) -> Prompt:
    """A question, or as many of its words as the spec's limits allow.

    Raises:
        SpecError: the language stage has no room for a prompt at all.
    """
    spec = reference.spec
    longest = spec.stages.language.max_sequence_length
    # Each picture has one placeholder, and K tokens take the place of all of them.
    other = spec.kept_tokens - pictures + ANSWER_TOKENS
    words = question.split()
    texts = [" ".join(words[:count]) for count in range(len(words), 0, -1)]
    for text in (*texts, question[0]):
        with contextlib.suppress(PromptError):
            prompt = reference.prompts.encode(text.encode(), pictures)
            if len(prompt.prompt_ids) + other <= longest:
                return prompt
    least = len(reference.prompts.encode(question[0].encode(), pictures).prompt_ids) + other
    raise SpecError(
        f"stages.language.max_sequence_length: {longest} has no room for the chat format, "
        f"{spec.kept_tokens} visual tokens, a question and {ANSWER_TOKENS} tokens of an answer; "
        f"they take {least} at least"
    )


class Cases:
    """Cases of every kind that a spec's requests can be of."""

    def __init__(self, reference: Reference, pictures: list[bytes]) -> None:
        """Prepare the pixels once.

        Args:
            reference: The torch pipeline.
            pictures: Encoded pictures; they are cycled through, each on every grid, whichever
                grid it would get in a request.
        """
        spec, cell = reference.spec, reference.source.facts.cell_size
        # However many pixels a request may have: these are ours.
        decoded = [decode(picture, sys.maxsize) for picture in pictures]
        self._pixels = {
            grid: [to_pixels(picture, grid.rows * cell, grid.cols * cell) for picture in decoded]
            for grid in spec.all_grids
        }
        most = spec.max_pictures
        counts: list[int | None] = [None] if most == 1 else [1, min(most, _MOST_PICTURES)]
        self._prompts = {
            count: [_prompt(reference, question, count or 1) for question in QUESTIONS]
            for count in counts
        }
        self.kinds = [
            Kind(grid, count, self._label(grid, count)) for grid in self._pixels for count in counts
        ]

    def _label(self, grid: Grid, count: int | None) -> str:
        parts = [str(grid)] if len(self._pixels) > 1 else []
        if count is not None:
            parts.append(f"{count} picture{'s' if count > 1 else ''}")
        return f" ({', '.join(parts)})" if parts else ""

    def of(self, kind: Kind, number: int) -> list[Case]:
        """A number of cases of one kind."""
        pixels = cycle(self._pixels[kind.grid])
        prompts = cycle(self._prompts[kind.pictures])
        cases = []
        for prompt in islice(prompts, number):
            if kind.pictures is None:
                cases.append((next(pixels), prompt))
            else:
                cases.append((np.stack(list(islice(pixels, kind.pictures))), prompt))
        return cases

    def mixed(self, number: int) -> list[Case]:
        """A number of cases of all kinds in turn."""
        each = [self.of(kind, -(-number // len(self.kinds))) for kind in self.kinds]
        return [case for turn in zip(*each, strict=True) for case in turn][:number]

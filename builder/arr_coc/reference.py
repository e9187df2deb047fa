"""`answer`: the pipeline in plain torch, which everything else is checked against.

The base model runs through transformers' own forward; nothing here is exported or optimized.
Picture decoding and tokenization are the served code itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from builder.arr_coc.checkpoint import ArrCoc
from builder.runtime.models.preprocess.image import decode, to_pixels
from builder.runtime.models.preprocess.prompt import Prompt, PromptEncoder
from builder.spec.models import Spec


@dataclass(frozen=True)
class ReferenceAnswer:
    """What the reference says.

    Attributes:
        text: The answer.
        token_ids: Generated ids, the end token included.
        kept_indices: int32 [K], most relevant first.
        relevance: [rows, cols].
        prompt_tokens: Tokens of the prompt, visual ones included.
    """

    text: str
    token_ids: list[int]
    kept_indices: NDArray[np.int32]
    relevance: NDArray[np.float64]
    prompt_tokens: int


class Reference:
    """The pipeline of a spec in plain torch."""

    def __init__(self, spec: Spec, source: ArrCoc) -> None:
        self.spec = spec
        self.source = source
        with _tokenizer_file(source) as path:
            self.prompts = PromptEncoder(
                path,
                source.facts.prompt.prefix,
                source.facts.prompt.suffix,
                spec.limits.max_query_tokens,
            )

    def pixels(self, image: bytes) -> NDArray[np.uint8]:
        """Decode and resize: uint8 [H, W, 3]."""
        grid, cell = self.spec.grid, self.source.facts.cell_size
        picture = decode(image, self.spec.limits.max_image_pixels)
        return to_pixels(picture, grid.rows * cell, grid.cols * cell)

    def padded_query(self, prompt: Prompt) -> tuple[torch.Tensor, torch.Tensor]:
        """Query ids int32 [1, L] and their number int32 [1, 1]."""
        ids = torch.zeros((1, self.prompts.max_query_tokens), dtype=torch.int32)
        ids[0, : len(prompt.query_ids)] = torch.tensor(prompt.query_ids, dtype=torch.int32)
        return ids, torch.tensor([[len(prompt.query_ids)]], dtype=torch.int32)

    def patch_values(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Qwen2-VL's `pixel_values` [patches, channels * frames * p * p] and `grid_thw` [1, 3].

        The layout of transformers' `Qwen2VLImageProcessor` for one still picture.
        """
        config = self.source.visual.config
        p, m, t = config.patch_size, config.spatial_merge_size, config.temporal_patch_size
        rows, cols = self.spec.grid.rows, self.spec.grid.cols
        mean, std = (
            torch.tensor(v) for v in (self.source.facts.image_mean, self.source.facts.image_std)
        )
        normal = ((pixels.float() / 255.0 - mean) / std).permute(2, 0, 1)
        frames = normal.reshape(1, 3, rows, m, p, cols, m, p).expand(t, -1, -1, -1, -1, -1, -1, -1)
        patches = frames.permute(2, 5, 3, 6, 1, 0, 4, 7).reshape(rows * cols * m * m, -1)
        return patches, torch.tensor([[1, rows * m, cols * m]])

    @torch.no_grad()
    def embed_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Visual embeddings of uint8 [H, W, 3] pixels by the stock tower: [N, D]."""
        patches, grid = self.patch_values(pixels)
        output: torch.Tensor = self.source.visual(patches, grid_thw=grid).pooler_output
        return output

    @torch.no_grad()
    def select(self, pixels: torch.Tensor, prompt: Prompt) -> tuple[torch.Tensor, torch.Tensor]:
        """Kept indices int32 [K], most relevant first, and relevance [rows, cols]."""
        ids, length = self.padded_query(prompt)
        grid = (self.spec.grid.rows, self.spec.grid.cols)
        kept, relevance = self.source.relevance(
            pixels[None], ids, length, self.source.embeddings, grid, self.spec.kept_tokens
        )
        return kept[0], relevance[0]

    def _sequence(
        self, prompt: Prompt, kept: torch.Tensor, embeds: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Embeddings [1, S, D] and M-RoPE positions [3, 1, S] of the pruned prompt.

        The positions are the base model's own for the whole picture; then the cells that are
        not kept are dropped.
        """
        cells, merge = self.spec.grid.cells, self.source.visual.config.spatial_merge_size
        at = prompt.prompt_ids.index(self.source.facts.image_token_id)
        ids = torch.tensor(
            prompt.prompt_ids[:at]
            + [self.source.facts.image_token_id] * cells
            + prompt.prompt_ids[at + 1 :]
        )[None]
        grid = torch.tensor([[1, self.spec.grid.rows * merge, self.spec.grid.cols * merge]])
        positions, _ = self.source.model.model.get_rope_index(
            ids, (ids == self.source.facts.image_token_id).int(), image_grid_thw=grid
        )
        vectors = self.source.embeddings[ids[0]].clone()
        vectors[at : at + cells] = embeds
        keep = torch.ones(ids.shape[1], dtype=torch.bool)
        keep[at : at + cells] = False
        keep[at + kept.long()] = True
        return vectors[keep][None], positions[:, :, keep], int(positions.max()) + 1

    @torch.no_grad()
    def answer(
        self,
        image: bytes,
        question: str,
        max_tokens: int | None = None,
        visual_tokens: int | None = None,
    ) -> ReferenceAnswer:
        """Answer a question about a picture, greedily.

        Args:
            image: The encoded picture.
            question: The question.
            max_tokens: Most tokens to generate; the spec's default where None.
            visual_tokens: Visual tokens to keep; the spec's K where None.
        """
        pixels = torch.from_numpy(self.pixels(image).copy())
        prompt = self.prompts.encode(question.encode())
        kept, relevance = self.select(pixels, prompt)
        kept = kept[: visual_tokens or self.spec.kept_tokens]
        sequence = self._sequence(prompt, kept, self.embed_image(pixels))
        generated: list[int] = []
        for _, token in islice(
            self._steps(*sequence), max_tokens or self.spec.limits.default_max_tokens
        ):
            generated.append(token)
            if token in self.source.facts.end_token_ids:
                break
        return ReferenceAnswer(
            text=self.source.facts.tokenizer.decode(generated, skip_special_tokens=True),
            token_ids=generated,
            kept_indices=kept.numpy(),
            relevance=relevance.numpy(),
            prompt_tokens=sequence[0].shape[1],
        )

    @torch.no_grad()
    def logits(
        self, prompt: Prompt, kept: torch.Tensor, embeds: torch.Tensor, steps: int
    ) -> tuple[torch.Tensor, list[int]]:
        """Logits [steps, V] and the greedy token of each; goes on behind an end token."""
        sequence = self._sequence(prompt, kept, embeds)
        rows, tokens = zip(*islice(self._steps(*sequence), steps), strict=True)
        return torch.stack(rows), list(tokens)

    def _steps(
        self, vectors: torch.Tensor, positions: torch.Tensor, next_position: int
    ) -> Iterator[tuple[torch.Tensor, int]]:
        """Logits [V] and greedy token, one after another, through transformers' own forward."""
        cache = None
        while True:
            output = self.source.text_model(
                inputs_embeds=vectors,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            )
            cache = output.past_key_values
            logits = self.source.model.lm_head(output.last_hidden_state[0, -1])
            token = int(logits.argmax())
            yield logits, token
            vectors = self.source.embeddings[token].reshape(1, 1, -1)
            positions = torch.full((3, 1, 1), next_position)
            next_position += 1


@contextmanager
def _tokenizer_file(source: ArrCoc) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        source.facts.tokenizer.backend_tokenizer.save(str(path))
        yield path

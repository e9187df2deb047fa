"""`answer`: the pipeline in plain torch, which everything else is checked against.

The base model runs through transformers' own forward; nothing here is exported or optimized.
Picture decoding and tokenization are the served code itself.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.vision_utils import (
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
)

from builder.arr_coc.modules.allocator import allocate
from builder.arr_coc.source import ArrCoc
from builder.runtime.models.preprocess.grids import nearest_grid
from builder.runtime.models.preprocess.image import decode_all, to_pixels
from builder.runtime.models.preprocess.prompt import Prompt, PromptEncoder
from builder.spec.models import Spec


@dataclass(frozen=True)
class ReferenceAnswer:
    """What the reference says.

    Attributes:
        text: The answer.
        token_ids: Generated ids, the end token included.
        kept_indices: int32 [K], most relevant first.
        relevance: [rows, cols]; of P pictures [P * rows, cols], one below the other.
        prompt_tokens: Tokens of the prompt, visual ones included.
    """

    text: str
    token_ids: list[int]
    kept_indices: NDArray[np.int32]
    relevance: NDArray[np.float64]
    prompt_tokens: int


@dataclass(frozen=True)
class _Sequence:
    """A pruned prompt, for transformers' text model.

    Attributes:
        vectors: Embeddings [1, S, D].
        positions: M-RoPE positions [3, 1, S].
        next_position: Of the first generated token.
        deepstack: `visual_pos_masks` and `deepstack_visual_embeds`; empty for Qwen2-VL.
    """

    vectors: torch.Tensor
    positions: torch.Tensor
    next_position: int
    deepstack: dict[str, Any]


class Reference:
    """The pipeline of a spec in plain torch."""

    def __init__(self, spec: Spec, source: ArrCoc) -> None:
        self.spec = spec
        self.source = source
        prompt = source.facts.prompt
        with _tokenizer_file(source) as path:
            self.prompts = PromptEncoder(
                path,
                prompt.prefixes(source.facts.tokenizer, spec.max_pictures),
                prompt.suffix,
                spec.limits.max_query_tokens,
            )

    def pixels(self, image: bytes) -> NDArray[np.uint8]:
        """Decode and resize to the grid that fits: uint8 [H, W, 3]."""
        pixels: NDArray[np.uint8] = self.pixels_of([image])[0]
        return pixels

    def pixels_of(self, images: Sequence[bytes]) -> NDArray[np.uint8]:
        """The same of the pictures of a request: uint8 [P, H, W, 3], one grid for all."""
        pictures = decode_all(images, self.spec.limits.max_image_pixels)
        grids = [each.shape for each in self.spec.all_grids]
        rows, cols = nearest_grid(grids, [picture.size for picture in pictures])
        cell = self.source.facts.cell_size
        return np.stack([to_pixels(picture, rows * cell, cols * cell) for picture in pictures])

    def grid_of(self, pixels: torch.Tensor) -> tuple[int, int]:
        """Token cells (rows, cols) of uint8 [..., H, W, 3] pixels."""
        cell = self.source.facts.cell_size
        return pixels.shape[-3] // cell, pixels.shape[-2] // cell

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
        rows, cols = self.grid_of(pixels)
        mean, std = (
            torch.tensor(v) for v in (self.source.facts.image_mean, self.source.facts.image_std)
        )
        normal = ((pixels.float() / 255.0 - mean) / std).permute(2, 0, 1)
        frames = normal.reshape(1, 3, rows, m, p, cols, m, p).expand(t, -1, -1, -1, -1, -1, -1, -1)
        patches = frames.permute(2, 5, 3, 6, 1, 0, 4, 7).reshape(rows * cols * m * m, -1)
        return patches, torch.tensor([[1, rows * m, cols * m]])

    @torch.no_grad()
    def see(
        self, pixels: torch.Tensor, kept: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What the stock tower makes of uint8 [H, W, 3] or [P, H, W, 3] pixels.

        Args:
            pixels: The picture, or P of them, which do not see each other.
            kept: Cells that the tower sees, int [K] in any order; None for the whole picture.
                Those of the second picture come behind the rows * cols of the first.

        Returns:
            Visual embeddings [N or K, D] in raster order of the cells, and DeepStack features
            [L, N or K, D] (None where the tower has none).
        """
        if pixels.ndim == 4:
            rows, cols = self.grid_of(pixels)
            seen = []
            for number, picture in enumerate(pixels):
                own = None if kept is None else kept[kept // (rows * cols) == number]
                if own is None or len(own):
                    seen.append(self.see(picture, None if own is None else own % (rows * cols)))
            several = [layers for _, layers in seen if layers is not None]
            return torch.cat([e for e, _ in seen]), torch.cat(several, dim=1) if several else None
        patches, grid = self.patch_values(pixels)
        merge = self.source.visual.config.spatial_merge_size
        positions: dict[str, torch.Tensor] = {}
        if kept is not None:
            cells = kept.long().sort().values
            chosen = (cells[:, None] * merge**2 + torch.arange(merge**2)).flatten()
            patches = patches[chosen]
            positions = {name: value[chosen] for name, value in self._patch_positions(grid).items()}
            positions["cu_seqlens"] = torch.tensor([0, len(chosen)], dtype=torch.int32)
        output = self.source.visual(patches, grid_thw=grid, **positions)
        features = getattr(output, "deepstack_features", None)
        return output.pooler_output, torch.stack(list(features)) if features else None

    def _patch_positions(self, grid: torch.Tensor) -> dict[str, torch.Tensor]:
        """What transformers' towers derive from `grid_thw` for each patch, by keyword."""
        visual = self.source.visual
        merge = visual.config.spatial_merge_size
        positions = {"position_ids": get_vision_position_ids(grid, merge)}
        if hasattr(visual, "pos_embed"):
            indices, weights = get_vision_interpolation_indices_and_weights(
                grid,
                num_grid_per_side=visual.num_grid_per_side,
                mode=visual.interpolation_mode,
                align_corners=visual.interpolation_align_corners,
                spatial_merge_size=merge,
            )
            positions |= {"interp_indices": indices, "interp_weights": weights}
        return positions

    def embed_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Visual embeddings of uint8 [H, W, 3] pixels by the stock tower: [N, D]."""
        return self.see(pixels)[0]

    def visual_tokens(
        self, pixels: torch.Tensor, kept: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`see` as the spec's `prune` says, spread over all N cells (zeros where not seen)."""
        if self.spec.prune == "after_vision":
            return self.see(pixels)
        whole_cells = int(np.prod((*pixels.shape[:-3], *self.grid_of(pixels))))
        cells = kept.long().sort().values

        def spread(x: torch.Tensor) -> torch.Tensor:
            whole = x.new_zeros((*x.shape[:-2], whole_cells, x.shape[-1]))
            whole[..., cells, :] = x
            return whole

        embeds, features = self.see(pixels, kept)
        return spread(embeds), None if features is None else spread(features)

    @torch.no_grad()
    def select(self, pixels: torch.Tensor, prompt: Prompt) -> tuple[torch.Tensor, torch.Tensor]:
        """Kept indices int32 [K], most relevant first, and relevance [rows, cols].

        Of uint8 [P, H, W, 3] pixels the K are the most relevant of all P * rows * cols cells, and
        the relevance is [P * rows, cols].
        """
        ids, length = self.padded_query(prompt)
        grid = self.grid_of(pixels)
        if pixels.ndim == 4:
            pictures = len(pixels)
            _, each = self.source.relevance(
                pixels,
                ids.expand(pictures, -1),
                length.expand(pictures, -1),
                self.source.embeddings,
                grid,
                1,
            )
            joint = allocate(each.reshape(1, -1), self.spec.kept_tokens)
            return joint[0], each.reshape(-1, grid[1])
        kept, relevance = self.source.relevance(
            pixels[None], ids, length, self.source.embeddings, grid, self.spec.kept_tokens
        )
        return kept[0], relevance[0]

    @property
    def _image_token(self) -> int:
        return self.source.facts.image_token_id

    def whole_prompt(self, prompt: Prompt, grid: tuple[int, int]) -> list[int]:
        """Ids with a visual token for every cell of every picture, as transformers takes them."""
        ids: list[int] = []
        for token in prompt.prompt_ids:
            ids += [token] * (grid[0] * grid[1] if token == self._image_token else 1)
        return ids

    def _sequence(
        self,
        prompt: Prompt,
        kept: torch.Tensor,
        embeds: torch.Tensor,
        features: torch.Tensor | None,
        grid: tuple[int, int],
    ) -> _Sequence:
        """The pruned prompt, of visual embeddings [N, D] and DeepStack features [L, N, D].

        N are the cells of all its pictures. The positions are the base model's own for the whole
        pictures; then the cells that are not kept are dropped.
        """
        merge, image = self.source.visual.config.spatial_merge_size, self._image_token
        ids = torch.tensor(self.whole_prompt(prompt, grid))[None]
        visual = ids[0] == image
        pictures = prompt.prompt_ids.count(image)
        positions, _ = self.source.model.model.get_rope_index(
            ids,
            visual[None].int(),
            image_grid_thw=torch.tensor([[1, grid[0] * merge, grid[1] * merge]] * pictures),
        )
        vectors = self.source.embeddings[ids[0]].clone()
        vectors[visual] = embeds
        keep = ~visual
        keep[visual.nonzero()[:, 0][kept.long()]] = True
        deepstack = {}
        if features is not None:
            deepstack = {
                "visual_pos_masks": visual[keep][None],
                "deepstack_visual_embeds": list(features[:, keep[visual]]),
            }
        return _Sequence(
            vectors[keep][None], positions[:, :, keep], int(positions.max()) + 1, deepstack
        )

    @torch.no_grad()
    def answer(
        self,
        image: bytes | Sequence[bytes],
        question: str,
        max_tokens: int | None = None,
        visual_tokens: int | None = None,
    ) -> ReferenceAnswer:
        """Answer a question about a picture or several, greedily.

        Args:
            image: The encoded picture or pictures.
            question: The question.
            max_tokens: Most tokens to generate; the spec's default where None.
            visual_tokens: Visual tokens to keep; the spec's K where None.
        """
        images = [image] if isinstance(image, bytes) else list(image)
        pixels = torch.from_numpy(self.pixels_of(images))
        prompt = self.prompts.encode(question.encode(), len(images))
        kept, relevance = self.select(pixels, prompt)
        # The tower sees the built K, however many of them the request asks for.
        embeds, features = self.visual_tokens(pixels, kept)
        kept = kept[: visual_tokens or self.spec.kept_tokens]
        sequence = self._sequence(prompt, kept, embeds, features, self.grid_of(pixels))
        generated: list[int] = []
        for _, token in islice(
            self._steps(sequence), max_tokens or self.spec.limits.default_max_tokens
        ):
            generated.append(token)
            if token in self.source.facts.end_token_ids:
                break
        return ReferenceAnswer(
            text=self.source.facts.tokenizer.decode(generated, skip_special_tokens=True),
            token_ids=generated,
            kept_indices=kept.numpy(),
            relevance=relevance.numpy(),
            prompt_tokens=sequence.vectors.shape[1],
        )

    @torch.no_grad()
    def logits(
        self,
        prompt: Prompt,
        kept: torch.Tensor,
        embeds: torch.Tensor,
        steps: int,
        features: torch.Tensor | None = None,
        grid: tuple[int, int] | None = None,
    ) -> tuple[torch.Tensor, list[int]]:
        """Logits [steps, V] and the greedy token of each; goes on behind an end token.

        `grid` is that of the picture, the spec's first where None.
        """
        sequence = self._sequence(prompt, kept, embeds, features, grid or self.spec.grid.shape)
        rows, tokens = zip(*islice(self._steps(sequence), steps), strict=True)
        return torch.stack(rows), list(tokens)

    def _steps(self, sequence: _Sequence) -> Iterator[tuple[torch.Tensor, int]]:
        """Logits [V] and greedy token, one after another, through transformers' own forward."""
        vectors, positions, next_position = (
            sequence.vectors,
            sequence.positions,
            sequence.next_position,
        )
        deepstack = sequence.deepstack
        cache = None
        while True:
            output = self.source.text_model(
                inputs_embeds=vectors,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                **deepstack,
            )
            cache = output.past_key_values
            logits = self.source.model.lm_head(output.last_hidden_state[0, -1])
            token = int(logits.argmax())
            yield logits, token
            vectors = self.source.embeddings[token].reshape(1, 1, -1)
            positions = torch.full((3, 1, 1), next_position)
            next_position += 1
            deepstack = {}


@contextmanager
def _tokenizer_file(source: ArrCoc) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        source.facts.tokenizer.backend_tokenizer.save(str(path))
        yield path

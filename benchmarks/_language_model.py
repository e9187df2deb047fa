"""A random Qwen2-VL of Qwen2-0.5B's shape, requests for it, and transformers' answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, StaticCache

from builder.runtime.models.language.positions import Sequence, build_sequence

VOCABULARY = 32768
IMAGE_TOKEN = 32000
GRID = (8, 8)
TEXT_TOKENS = 32
PROMPT_TOKENS = GRID[0] * GRID[1] + TEXT_TOKENS

Tokens = list[list[int]]


@dataclass(frozen=True)
class Prompt:
    """A request: its text with one placeholder, and what the vision tower sees."""

    ids: NDArray[np.int32]
    pixels: torch.Tensor
    embeds: NDArray[np.float32]
    max_tokens: int

    @property
    def sequence(self) -> Sequence:
        """As the engine takes it."""
        kept = np.arange(GRID[0] * GRID[1], dtype=np.int32)
        return build_sequence(self.ids, kept, GRID, IMAGE_TOKEN)


def make_model(layers: int) -> Any:
    """`Qwen2VLForConditionalGeneration`, fp32, with a vision tower of next to no size.

    The matrices that write to the residual stream are larger than at Qwen's initialization:
    otherwise the tied head makes the model repeat its input for ever.
    """
    torch.manual_seed(0)
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": layers,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [8, 12, 12],
        },
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    vision = {
        "depth": 1,
        "embed_dim": 32,
        "num_heads": 2,
        "hidden_size": 896,
        "mlp_ratio": 1,
        "patch_size": 14,
    }
    config = Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=IMAGE_TOKEN,
        vision_start_token_id=IMAGE_TOKEN + 1,
        vision_end_token_id=IMAGE_TOKEN + 2,
        video_token_id=IMAGE_TOKEN + 3,
        tie_word_embeddings=True,
    )
    model = Qwen2VLForConditionalGeneration._from_config(config, attn_implementation="sdpa").eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            layer.self_attn.o_proj.weight.mul_(6.0)
            layer.mlp.down_proj.weight.mul_(6.0)
            for projection in ("q_proj", "k_proj", "v_proj"):
                getattr(layer.self_attn, projection).bias.normal_(std=0.1)
    return model


@torch.no_grad()
def make_prompts(model: Any, lengths: list[int], seed: int = 0) -> list[Prompt]:
    """A request for each answer length: an own picture, a shared opening, an own question."""
    rng = np.random.default_rng(seed)
    opening = np.random.default_rng(7).integers(10, IMAGE_TOKEN, 12)
    patches = GRID[0] * GRID[1] * 4
    prompts = []
    for length in lengths:
        text = np.concatenate((opening, rng.integers(10, IMAGE_TOKEN, TEXT_TOKENS - 12)))
        ids = np.insert(text, 12, IMAGE_TOKEN).astype(np.int32)
        pixels = torch.from_numpy(rng.normal(size=(patches, 1176)).astype(np.float32))
        thw = torch.tensor([[1, 2 * GRID[0], 2 * GRID[1]]])
        embeds = model.model.visual(pixels, grid_thw=thw).pooler_output
        prompts.append(Prompt(ids, pixels, embeds.numpy(), length))
    return prompts


def _inputs(prompts: list[Prompt]) -> dict[str, torch.Tensor]:
    ids = torch.from_numpy(np.stack([prompt.sequence.input_ids for prompt in prompts]))
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == IMAGE_TOKEN).int(),
        "pixel_values": torch.cat([prompt.pixels for prompt in prompts]),
        "image_grid_thw": torch.tensor([[1, 2 * GRID[0], 2 * GRID[1]]] * len(prompts)),
    }


@torch.no_grad()
def sequential(model: Any, prompts: list[Prompt]) -> Tokens:
    """`generate`, one request after another."""
    return [
        model.generate(**_inputs([p]), max_new_tokens=p.max_tokens, do_sample=False)[
            0, PROMPT_TOKENS:
        ].tolist()
        for p in prompts
    ]


@torch.no_grad()
def padded(model: Any, prompts: list[Prompt], steps: int) -> Tokens:
    """`generate` of all as one batch, cut off after `steps` tokens."""
    output = model.generate(**_inputs(prompts), max_new_tokens=steps, do_sample=False)
    return [
        row[PROMPT_TOKENS : PROMPT_TOKENS + p.max_tokens].tolist()
        for row, p in zip(output, prompts, strict=True)
    ]


class Compiled:
    """The text model compiled for one token over a static cache, one request after another."""

    def __init__(self, model: Any, max_length: int) -> None:
        """Nothing is compiled before the first answer."""
        self._model = model
        self._max_length = max_length
        self._step: Callable[..., torch.Tensor] = torch.compile(
            self._forward, fullgraph=True, dynamic=False
        )

    def _forward(
        self, vectors: torch.Tensor, positions: torch.Tensor, cache: StaticCache
    ) -> torch.Tensor:
        output = self._model.model.language_model(
            inputs_embeds=vectors, position_ids=positions, past_key_values=cache, use_cache=True
        )
        logits: torch.Tensor = self._model.lm_head(output.last_hidden_state[:, -1])
        return logits

    @torch.no_grad()
    def __call__(self, prompts: list[Prompt]) -> Tokens:
        """Answer greedily."""
        return [self._answer(prompt) for prompt in prompts]

    def _answer(self, prompt: Prompt) -> list[int]:
        sequence = prompt.sequence
        embedding = self._model.model.language_model.embed_tokens
        config = self._model.config.text_config
        cache = StaticCache(config=config, max_cache_len=self._max_length)
        vectors = embedding(torch.from_numpy(sequence.input_ids))
        vectors[torch.from_numpy(sequence.visual_mask)] = torch.from_numpy(prompt.embeds)
        positions = torch.from_numpy(sequence.position_ids)[:, None]
        token = int(self._forward(vectors[None], positions, cache).argmax())
        tokens = [token]
        while len(tokens) < prompt.max_tokens:
            position = torch.full((3, 1, 1), sequence.next_position + len(tokens) - 1)
            vector = embedding(torch.tensor([[token]]))
            token = int(self._step(vector, position, cache).argmax())
            tokens.append(token)
        return tokens

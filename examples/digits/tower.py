"""The vision tower in training: batched over one fixed grid, same weights as the stock module.

The stock forward takes one long sequence and splits it by picture; here pictures are the batch
dim, rotary tables are constants, and the doubled frame of a still picture is folded into the
patch weight. `tests/unit/test_digits.py` checks it against the stock forward.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from .palette import COLOURS
from .scenes import CELL, Scene

# The image processor's mean and std (CLIP's, as Qwen2-VL's), of colours 0..1.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

NOTHING = 10
"""Label of a cell without a digit, for both of the auxiliary heads."""
IGNORED = -100
NO_COLOUR = len(COLOURS)
# A cell is labelled from this share of it inside a digit's box; between 0 and it, not at all.
_COVERED = 0.25


def patches(pixels: torch.Tensor, cell: int = CELL) -> torch.Tensor:
    """Normalized patches of uint8 [B, H, W, 3] in raster order: float [B, N, 3 * cell * cell]."""
    batch, height, width, _ = pixels.shape
    mean = torch.tensor(MEAN) * 255
    std = torch.tensor(STD) * 255
    rows, columns = height // cell, width // cell
    blocks = ((pixels.float() - mean) / std).view(batch, rows, cell, columns, cell, 3)
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(batch, rows * columns, 3 * cell * cell)


def rotary(tower: Any, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine [N, head_dim] of a grid of patches in raster order (merge size 1)."""
    row = torch.arange(rows).repeat_interleave(columns)
    column = torch.arange(columns).repeat(rows)
    cos, sin = tower.rotary_pos_emb(torch.zeros(1), torch.stack((row, column), dim=-1))
    return cos.float(), sin.float()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of [..., N, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Scaled dot-product attention of [..., N, head_dim], `bias` added to the scores.

    Written out: the backward of torch's CPU flash attention takes five times as long in bf16
    at these sizes (torch 2.13: 577 against 99 microseconds a picture of 64 cells).
    """
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    return torch.softmax(scores, dim=-1) @ value


def attend_gated(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor,
    gate: torch.Tensor,
) -> torch.Tensor:
    """Attention whose weights are multiplied by a gate [..., 1, N] of each key, then normalized.

    At gate 0 a key is dropped exactly, yet the gate has a gradient: what the key would add. A
    token always sees itself, so that a dropped one looks as it would if it were kept.
    """
    scores = (query @ key.transpose(-1, -2)).float() * query.shape[-1] ** -0.5 + bias
    itself = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
    gate = torch.where(itself, torch.ones_like(gate), gate)
    with torch.no_grad():
        highest = scores.masked_fill(gate < 0.5, float("-inf")).amax(dim=-1, keepdim=True)
    # Clamped: a dropped key may score far higher than every kept one.
    weights = torch.exp((scores - highest).clamp(max=5.0)) * gate
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return weights.to(value.dtype) @ value


def tower_states(tower: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Last hidden states [B, N, D] of patches [B, N, 3 * p * p] (before the merger)."""
    x = F.linear(x, tower.patch_embed.proj.weight.sum(dim=2).flatten(1))
    batch, cells, width = x.shape
    for block in tower.blocks:
        attention = block.attn
        qkv = attention.qkv(block.norm1(x)).view(batch, cells, 3, attention.num_heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        cos_, sin_ = cos.to(query.dtype), sin.to(query.dtype)
        mixed = attend(rotate(query, cos_, sin_), rotate(key, cos_, sin_), value)
        x = x + attention.proj(mixed.transpose(1, 2).reshape(batch, cells, width))
        x = x + block.mlp(block.norm2(x))
    return x


def cell_labels(scene: Scene, cell: int = CELL) -> npt.NDArray[np.int64]:
    """What each cell shows: int64 [2, N], digit (or NOTHING) and colour (or NO_COLOUR).

    Cells that a digit's box only touches are IGNORED.
    """
    grid = scene.side // cell
    edges = np.arange(grid) * cell
    labels = np.empty((2, grid, grid), np.int64)
    labels[0], labels[1] = NOTHING, NO_COLOUR
    best = np.zeros((grid, grid))
    for digit in scene.digits:
        down = np.minimum(edges + cell, digit.top + digit.height) - np.maximum(edges, digit.top)
        along = np.minimum(edges + cell, digit.left + digit.width) - np.maximum(edges, digit.left)
        share = np.maximum(down, 0)[:, None] * np.maximum(along, 0)[None, :] / cell**2
        mine = share > best
        best = np.maximum(best, share)
        covered = share >= _COVERED
        labels[0][mine] = np.where(covered, digit.digit, IGNORED)[mine]
        labels[1][mine] = np.where(covered, COLOURS.index(digit.colour), IGNORED)[mine]
    return labels.reshape(2, -1)

"""The vision tower over one fixed grid, pixels in, as it is exported.

The stock forward does not export with a dynamic batch (`torch.split` by lengths that depend on
data). With one fixed grid the batch is a plain leading dim: rotary tables are constants and every
picture attends within itself.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


def patch_positions(rows: int, cols: int, merge: int) -> torch.Tensor:
    """Row and column of each patch, in the tower's order: merge blocks in raster order.

    Returns:
        int64 [rows * cols * merge**2, 2].
    """
    height = torch.arange(rows * merge).reshape(rows, 1, merge, 1)
    width = torch.arange(cols * merge).reshape(1, cols, 1, merge)
    shape = (rows, cols, merge, merge)
    return torch.stack((height.expand(shape).reshape(-1), width.expand(shape).reshape(-1)), dim=1)


class VisionTower(nn.Module):
    """Qwen2-VL's vision tower: uint8 pixels in, one embedding per token cell out.

    Rescaling, normalization, the doubled frame and the patch embedding are one linear map of the
    bytes; they are folded into one weight (exact algebra, rounding aside).
    """

    cos: torch.Tensor
    sin: torch.Tensor
    patch_weight: torch.Tensor
    patch_bias: torch.Tensor

    def __init__(
        self,
        visual: Any,
        grid: tuple[int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        """Wrap a `Qwen2VisionTransformerPretrainedModel` for one grid of token cells.

        Args:
            visual: The tower.
            grid: Token cells (rows, cols).
            mean: Mean of each colour, 0 to 1, as the image processor's config says.
            std: Standard deviation of each colour.
        """
        super().__init__()
        config = visual.config
        self.grid = grid
        self.merge = int(config.spatial_merge_size)
        self.patch = int(config.patch_size)
        self.heads = int(config.num_heads)
        self.blocks = visual.blocks
        self.merger = visual.merger
        positions = patch_positions(*grid, self.merge)
        cos, sin = visual.rotary_pos_emb(torch.zeros(1), positions)
        self.register_buffer("cos", cos.float(), persistent=False)
        self.register_buffer("sin", sin.float(), persistent=False)
        # [D, channels, frames, p, p]; a still picture fills every frame.
        weight = visual.patch_embed.proj.weight.detach().double().sum(dim=2)
        mean_, std_ = (
            torch.tensor(v, dtype=torch.float64).reshape(1, -1, 1, 1) for v in (mean, std)
        )
        bias = -(weight * mean_ / std_).sum(dim=(1, 2, 3))
        scaled = (weight / (255.0 * std_)).permute(0, 2, 3, 1).flatten(1)
        dtype = visual.patch_embed.proj.weight.dtype
        self.register_buffer("patch_weight", scaled.to(dtype), persistent=False)
        self.register_buffer("patch_bias", bias.to(dtype), persistent=False)

    def _patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 [B, H, W, 3] -> [B, patches, p * p * 3] in the tower's order."""
        rows, cols = self.grid
        m, p = self.merge, self.patch
        blocks = pixels.reshape(-1, rows, m, p, cols, m, p, 3)
        # Bytes are moved, then widened: a quarter of the traffic.
        blocks = blocks.permute(0, 1, 4, 2, 5, 3, 6, 7)
        return blocks.reshape(-1, rows * cols * m * m, p * p * 3).to(self.patch_weight.dtype)

    def _rotate(self, x: torch.Tensor) -> torch.Tensor:
        """Rotary embedding of [B, heads, patches, d]."""
        half = x.shape[-1] // 2
        rotated = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
        return (x.float() * self.cos + rotated.float() * self.sin).to(x.dtype)

    def _attention(self, attention: Any, x: torch.Tensor) -> torch.Tensor:
        batch, patches, width = x.shape
        qkv = attention.qkv(x).reshape(batch, patches, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(self._rotate(query), self._rotate(key), value)
        return attention.proj(mixed.transpose(1, 2).reshape(batch, patches, width))  # type: ignore[no-any-return]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed every token cell.

        Args:
            pixels: uint8 [B, rows * merge * patch, cols * merge * patch, 3], sRGB.

        Returns:
            [B, rows * cols, D] in raster order of the cells.
        """
        x = F.linear(self._patches(pixels), self.patch_weight, self.patch_bias)
        for block in self.blocks:
            x = x + self._attention(block.attn, block.norm1(x))
            x = x + block.mlp(block.norm2(x))
        rows, cols = self.grid
        normed = self.merger.ln_q(x)
        cells = normed.reshape(-1, rows * cols, self.merger.hidden_size)
        return self.merger.mlp(cells)  # type: ignore[no-any-return]

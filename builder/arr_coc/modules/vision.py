"""The vision tower over one fixed grid, pixels in, as it is exported.

The stock forward does not export with a dynamic batch (`torch.split` by lengths that depend on
data). With one fixed grid the batch is a plain leading dim: rotary tables are constants and every
picture attends within itself.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.vision_utils import get_vision_interpolation_indices_and_weights

from builder.contrib.kernels import fast_gelu, multi_head_attention
from builder.contrib.operators import rotary_embedding

_TANH_GELU = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast")


def patch_positions(rows: int, cols: int, merge: int) -> torch.Tensor:
    """Row and column of each patch, in the tower's order: merge blocks in raster order.

    Returns:
        int64 [rows * cols * merge**2, 2].
    """
    height = torch.arange(rows * merge).reshape(rows, 1, merge, 1)
    width = torch.arange(cols * merge).reshape(1, cols, 1, merge)
    shape = (rows, cols, merge, merge)
    return torch.stack((height.expand(shape).reshape(-1), width.expand(shape).reshape(-1)), dim=1)


def patch_embedding(
    visual: Any, mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rescaling, normalization, the doubled frame and the patch embedding as one linear map.

    Exact algebra, rounding aside.

    Args:
        visual: The tower.
        mean: Mean of each colour, 0 to 1, as the image processor's config says.
        std: Standard deviation of each colour.

    Returns:
        Weight [D, p * p * 3] over the bytes of a patch and bias [D].
    """
    projection = visual.patch_embed.proj
    # [D, channels, frames, p, p]; a still picture fills every frame.
    weight = projection.weight.detach().double().sum(dim=2)
    mean_, std_ = (torch.tensor(v, dtype=torch.float64).reshape(1, -1, 1, 1) for v in (mean, std))
    bias = -(weight * mean_ / std_).sum(dim=(1, 2, 3))
    if projection.bias is not None:
        bias = bias + projection.bias.detach().double()
    scaled = (weight / (255.0 * std_)).permute(0, 2, 3, 1).flatten(1)
    dtype = projection.weight.dtype
    return scaled.to(dtype), bias.to(dtype)


def _position_embedding(visual: Any, grid: tuple[int, int], merge: int) -> torch.Tensor | None:
    """Learned positions [patches, D] resampled to the grid (Qwen3-VL); None for Qwen2-VL."""
    if not hasattr(visual, "pos_embed"):
        return None
    indices, weights = get_vision_interpolation_indices_and_weights(
        torch.tensor([[1, grid[0] * merge, grid[1] * merge]]),
        num_grid_per_side=visual.num_grid_per_side,
        mode=visual.interpolation_mode,
        align_corners=visual.interpolation_align_corners,
        spatial_merge_size=merge,
        kwargs={},
    )
    table = visual.pos_embed.weight.detach()
    resampled: torch.Tensor = (table[indices] * weights[:, :, None].to(table.dtype)).sum(1)
    return resampled


class _Attention(nn.Module):
    """Self-attention with the packed projection taken apart, which costs no more products."""

    def __init__(self, attention: Any, heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.proj = attention.proj
        weights = attention.qkv.weight.detach().chunk(3)
        biases = attention.qkv.bias.detach().chunk(3)
        for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
            linear.weight = nn.Parameter(weight.clone())
            linear.bias = nn.Parameter(bias.clone())
            self.add_module(name, linear)

    def forward(
        self,
        x: torch.Tensor,
        places: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """[B * S, D] of B pictures -> the same; places int64 [B, S] are rows of the tables.

        `mask` bool [B, 1, S, S] says which patches see each other; None: all of them.
        """
        length, width = places.shape[1], x.shape[-1]
        query, key, value = (
            self.get_submodule(name)(x).reshape(-1, length, width)
            for name in ("query", "key", "value")
        )
        if self.fused and mask is None:
            query = rotary_embedding(query, places, cos, sin)
            key = rotary_embedding(key, places, cos, sin)
            mixed = multi_head_attention(query, key, value, self.heads)
        else:
            # Constants where every place is wanted.
            whole = mask is None and places.shape[1] == cos.shape[0]
            cos, sin = (
                table.unsqueeze(-3)
                for table in ((cos, sin) if whole else (cos[places], sin[places]))
            )
            mixed = self._plain(query, key, value, cos, sin, mask)
        return self.proj(mixed.reshape(-1, width))  # type: ignore[no-any-return]

    def _plain(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """The same in operators of plain ONNX, for TensorRT and for masks."""
        length, width = query.shape[1:]

        def heads(x: torch.Tensor) -> torch.Tensor:
            return x.reshape(-1, length, self.heads, width // self.heads).transpose(1, 2)

        def rotate(x: torch.Tensor) -> torch.Tensor:
            first, second = heads(x).chunk(2, dim=-1)
            turned = (first * cos - second * sin, second * cos + first * sin)
            return torch.cat(turned, dim=-1)

        mixed = F.scaled_dot_product_attention(
            rotate(query), rotate(key), heads(value), attn_mask=mask
        )
        return mixed.transpose(1, 2).reshape(-1, length, width)


class VisionTower(nn.Module):
    """Qwen2-VL's or Qwen3-VL's vision tower: uint8 pixels in, one embedding per token cell out."""

    cos: torch.Tensor
    sin: torch.Tensor
    patch_weight: torch.Tensor
    patch_bias: torch.Tensor
    positions: torch.Tensor | None
    places: torch.Tensor
    in_cell: torch.Tensor

    def __init__(
        self,
        visual: Any,
        grid: tuple[int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        fused: bool = True,
    ) -> None:
        """Wrap the tower for one grid of token cells.

        Args:
            visual: A `Qwen2VisionTransformerPretrainedModel` or a `Qwen3VLVisionModel`.
            grid: Token cells (rows, cols).
            mean: Mean of each colour, 0 to 1, as the image processor's config says.
            std: Standard deviation of each colour.
            fused: Use ONNX Runtime's fused operators.
        """
        super().__init__()
        config = visual.config
        self.grid = grid
        self.merge = int(config.spatial_merge_size)
        self.patch = int(config.patch_size)
        heads = int(config.num_heads)
        self.blocks = visual.blocks
        self.attentions = nn.ModuleList(_Attention(b.attn, heads, fused) for b in visual.blocks)
        self.fused_gelu = fused and getattr(config, "hidden_act", None) in _TANH_GELU
        self.merger = visual.merger
        self.deepstack_layers = [int(i) for i in getattr(config, "deepstack_visual_indexes", ())]
        self.deepstack_mergers = getattr(visual, "deepstack_merger_list", nn.ModuleList())
        dtype = visual.patch_embed.proj.weight.dtype
        cos, sin = visual.rotary_pos_emb(torch.zeros(1), patch_positions(*grid, self.merge))
        half = cos.shape[-1] // 2  # both halves hold the same angles
        weight, bias = patch_embedding(visual, mean, std)
        for name, value in (
            ("cos", cos[:, :half].to(dtype)),
            ("sin", sin[:, :half].to(dtype)),
            ("patch_weight", weight),
            ("patch_bias", bias),
            ("positions", _position_embedding(visual, grid, self.merge)),
            ("places", torch.arange(cos.shape[0])[None]),
            ("in_cell", torch.arange(self.merge**2)),
        ):
            self.register_buffer(name, value, persistent=False)

    @property
    def deepstack_size(self) -> int:
        """Number of DeepStack features, each for one of the decoder's first layers."""
        return len(self.deepstack_layers)

    def _patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 [B, H, W, 3] -> bytes [B * patches, p * p * 3] in the tower's order."""
        rows, cols = self.grid
        m, p = self.merge, self.patch
        blocks = pixels.reshape(-1, rows, m, p, cols, m, p * 3)
        return blocks.permute(0, 1, 4, 2, 5, 3, 6).reshape(-1, p * p * 3)

    def _kept_patches(self, pixels: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """The same of some cells of each request, int64 [B, K]: [B * K * m * m, p * p * 3]."""
        rows, cols = self.grid
        m, p = self.merge, self.patch
        side = m * p
        cells = pixels.reshape(-1, rows, side, cols, side * 3).transpose(2, 3)
        cells = cells.reshape(-1, side * side * 3)
        pictures = pixels.shape[1] if pixels.ndim == 5 else 1
        first = torch.arange(kept.shape[0]).unsqueeze(1) * (pictures * rows * cols)
        chosen = cells[(kept + first).reshape(-1)]
        return chosen.reshape(-1, m, p, m, p * 3).transpose(2, 3).reshape(-1, p * p * 3)

    def _mlp(self, mlp: Any, x: torch.Tensor) -> torch.Tensor:
        if not self.fused_gelu:
            return mlp(x)  # type: ignore[no-any-return]
        return mlp.linear_fc2(fast_gelu(mlp.linear_fc1(x)))  # type: ignore[no-any-return]

    def forward(
        self, pixels: torch.Tensor, kept: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Embed every token cell, or only those kept, which then see only each other.

        Args:
            pixels: uint8 [B, rows * merge * patch, cols * merge * patch, 3], sRGB; or
                [B, P, ...] with P pictures, one behind the other in what comes out.
            kept: int32 [B, K] cells in any order, all different; None for every cell.

        Returns:
            [B, cells, D] in raster order of the cells, and DeepStack features [B, L, cells, D]
            (None where the tower has none).
        """
        if pixels.ndim == 4 or kept is not None:
            return self._embed(pixels, kept)
        # A picture never sees another: pictures of a request are like those of a batch.
        batch, pictures = pixels.shape[:2]
        embeds, features = self._embed(pixels.reshape(-1, *pixels.shape[2:]), None)
        width = embeds.shape[-1]
        if features is not None:
            apart = features.reshape(batch, pictures, self.deepstack_size, -1, width)
            features = apart.transpose(1, 2).reshape(batch, self.deepstack_size, -1, width)
        return embeds.reshape(batch, -1, width), features

    def _embed(
        self, pixels: torch.Tensor, kept: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        # Bytes are moved, then widened: a quarter of the traffic.
        mask = None
        if kept is None:
            cells, places = self.grid[0] * self.grid[1], self.places
            patches = self._patches(pixels)
            places = places.expand(pixels.shape[0], -1)
        else:
            cells, order = kept.shape[1], kept.sort(dim=1).values.to(torch.int64)
            patches = self._kept_patches(pixels, order)
            if pixels.ndim == 5:
                # Cells of several pictures in one row: none sees those of another picture.
                in_one = self.grid[0] * self.grid[1]
                picture = (order // in_one).unsqueeze(-1).expand(-1, -1, self.merge**2).flatten(1)
                mask = (picture.unsqueeze(1) == picture.unsqueeze(2)).unsqueeze(1)
                order = order % in_one
            places = (order.unsqueeze(-1) * self.merge**2 + self.in_cell).flatten(1)
        x = F.linear(patches.to(self.patch_weight.dtype), self.patch_weight, self.patch_bias)
        if self.positions is not None:
            x = x + self.positions[places].reshape(-1, x.shape[-1])
        deepstack = []
        for i, (block, attention) in enumerate(zip(self.blocks, self.attentions, strict=True)):
            x = x + attention(block.norm1(x), places, self.cos, self.sin, mask)
            x = x + self._mlp(block.mlp, block.norm2(x))
            if i in self.deepstack_layers:
                merger = self.deepstack_mergers[self.deepstack_layers.index(i)]
                deepstack.append(self._merged(merger, x, cells))
        features = torch.stack(deepstack, dim=1) if deepstack else None
        return self._merged(self.merger, x, cells), features

    @staticmethod
    def _merged(merger: Any, x: torch.Tensor, cells: int) -> torch.Tensor:
        merged: torch.Tensor = merger(x)
        return merged.reshape(-1, cells, merged.shape[-1])

"""Relevance with everything that is known at build time folded in, as it is exported.

The same function as `relevance.Relevance`, by exact algebra:
- the projections of the question are linear in its mean embedding, so the table is projected once:
  a row holds the 2 x 32 numbers that the scores need, not the language model's whole width;
- projected textures are only measured (a length and a product with the question), so an
  orthogonal factor of their projection moves to the question's side, and the places' share of
  them is a constant;
- powers are exp(a log x), two vectorized functions; a power is neither in most runtimes;
- Sobel filters with repeated borders are two small matrices.
Rounding aside (some 1e-15 in fp64, far below the allocator's resolution) nothing changes.
"""

import math

import torch
from torch import nn

from builder.arr_coc.modules.allocator import allocate
from builder.arr_coc.modules.relevance import Relevance
from builder.arr_coc.modules.scorers import TINY
from builder.arr_coc.modules.texture import (
    CHANNELS,
    CIE_EPSILON,
    CIE_SLOPE,
    RGB_TO_XYZ,
    place_channels,
)
from builder.contrib.kernels import sum_bytes

_PLACES = slice(CHANNELS.index("y"), CHANNELS.index("eccentricity") + 1)
_ROWS_OF_TABLE = 8192


def _filters(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrices [size, size] that smooth (1, 2, 1) and derive (-1, 0, 1) / 4, borders repeated."""
    before = torch.eye(size, dtype=torch.float64)[[0, *range(size - 1)]]
    after = torch.eye(size, dtype=torch.float64)[[*range(1, size), size - 1]]
    smooth = before + 2 * torch.eye(size, dtype=torch.float64) + after
    return smooth, (after - before) / 4


class FoldedRelevance(nn.Module):
    """Relevance for one checkpoint, grid, cell size and K."""

    ones: torch.Tensor
    table: torch.Tensor
    to_xyz: torch.Tensor
    to_lab: torch.Tensor
    cells_weight: torch.Tensor
    cells_shift: torch.Tensor
    question_shift: torch.Tensor
    question_weight: torch.Tensor
    place_mass: torch.Tensor
    place_moment: torch.Tensor
    smooth_rows: torch.Tensor
    smooth_cols: torch.Tensor
    derive_rows: torch.Tensor
    derive_cols: torch.Tensor

    def __init__(
        self,
        relevance: Relevance,
        embeddings: torch.Tensor,
        grid: tuple[int, int],
        cell: int,
        kept: int,
        *,
        integer: bool = True,
    ) -> None:
        """Fold the modules.

        Args:
            relevance: The modules, in fp64.
            embeddings: [V, D], the language model's token embeddings.
            grid: Token cells (rows, cols).
            cell: Pixels on a side of a cell.
            kept: K.
            integer: Sum bytes by an integer product, which only ONNX Runtime's CPU provider
                has for unsigned bytes; else in fp32 (exact too, see `texture`).
        """
        super().__init__()
        self.grid, self.cell, self.kept, self.integer = grid, cell, kept, integer
        self.balancer = relevance.balancer
        participatory = relevance.participatory
        with torch.no_grad():
            query = participatory.query_projection
            self.width = query.out_features
            both = torch.cat((query.weight, self.balancer.query.weight)).T
            parts = [part.double() @ both for part in torch.split(embeddings, _ROWS_OF_TABLE)]
            self._hold("table", torch.cat(parts))
            self._hold("question_shift", query.bias)
            self._fold_textures(participatory.texture_projection)
        self._fold_colours()
        for name, size in zip(("rows", "cols"), grid, strict=True):
            smooth, derive = _filters(size)
            self._hold(f"smooth_{name}", smooth if name == "rows" else smooth.T)
            self._hold(f"derive_{name}", derive if name == "rows" else derive.T)
        self._hold("ones", torch.ones((1, cell), dtype=torch.uint8))

    def _hold(self, name: str, value: torch.Tensor) -> None:
        self.register_buffer(name, value.detach().clone().contiguous(), persistent=False)

    def _fold_textures(self, projection: nn.Linear) -> None:
        places = place_channels(*self.grid, torch.float64).reshape(-1, 3).T
        # W t + b = Q (R t'), t' being the texture with a 1 below it; Q keeps lengths.
        whole = torch.cat((projection.weight, projection.bias.unsqueeze(-1)), dim=-1)
        orthogonal, triangle = torch.linalg.qr(whole)
        seen = [i for i in range(len(CHANNELS)) if not _PLACES.start <= i < _PLACES.stop]
        self._hold("cells_weight", triangle[:, seen])
        self._hold("cells_shift", triangle[:, _PLACES] @ places + triangle[:, -1:])
        self._hold("question_weight", 0.5 * orthogonal)  # a score is 0.5 + 0.5 cosine
        self._hold("place_mass", places.exp().sum(dim=0, keepdim=True))
        self._hold("place_moment", (places.exp() * places).sum(dim=0, keepdim=True))

    def _fold_colours(self) -> None:
        self._hold("to_xyz", torch.tensor(RGB_TO_XYZ, dtype=torch.float64))
        to_lab = ((0.0, 1.16, 0.0), (5.0, -5.0, 0.0), (0.0, 2.0, -2.0))
        self._hold("to_lab", torch.tensor(to_lab, dtype=torch.float64))

    def _sums(self, pixels: torch.Tensor) -> torch.Tensor:
        """Sums of each cell's bytes, int32 [B, 3, N]."""
        rows, cols = self.grid
        lines = pixels.reshape(-1, self.cell, cols * self.cell * 3)
        if self.integer:
            sums = sum_bytes(self.ones, lines)
            cells = sums.reshape(-1, self.cell, 3).sum(dim=1, dtype=torch.int32)
        else:
            cells = lines.float().sum(dim=1).reshape(-1, self.cell, 3).sum(dim=1).to(torch.int32)
        planes: torch.Tensor = cells.reshape(-1, rows * cols, 3).transpose(1, 2)
        return planes

    def _textures(self, pixels: torch.Tensor) -> torch.Tensor:
        """The channels that depend on the picture, [B, 10, N], in the order of `CHANNELS`."""
        rows, cols = self.grid
        rgb = self._sums(pixels).to(torch.float64) * (1 / (255 * self.cell**2))
        # Not a table of the sums, which would be exact too: its cold memory costs more.
        curve = torch.exp(2.4 * torch.log(rgb * (1 / 1.055) + 0.055 / 1.055))
        xyz = self.to_xyz @ torch.where(rgb > 0.04045, curve, rgb * (1 / 12.92))
        # Black is log 0 = -inf, and exp of that 0: no NaN.
        root = torch.exp(torch.log(xyz) * (1 / 3))
        # 4 / 29 below CIE's f: 1.16 of it is the 0.16 that L* takes off, and a* and b* are
        # differences.
        f = torch.where(xyz > CIE_EPSILON, root - 4 / 29, CIE_SLOPE * xyz)
        lab = self.to_lab @ f
        lightness = lab[:, :1].reshape(-1, rows, cols)
        sobel_x = (self.smooth_rows @ lightness) @ self.derive_cols
        sobel_y = (self.derive_rows @ lightness) @ self.smooth_cols
        sobel = torch.stack((sobel_x, sobel_y), dim=1).reshape(-1, 2, rows * cols)
        magnitude = torch.linalg.vector_norm(sobel, dim=1, keepdim=True)
        difference = lab - lab.mean(dim=2, keepdim=True)
        saliency = torch.linalg.vector_norm(difference, dim=1, keepdim=True)
        return torch.cat((rgb, lab[:, :2], sobel, magnitude, saliency, xyz[:, 1:2]), dim=1)

    def _question(
        self, query_ids: torch.Tensor, query_length: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The projected question [B, 1, P] and its share in the balancer [B, H]."""
        rows = nn.functional.embedding(query_ids, self.table)
        place = torch.arange(query_ids.shape[1], dtype=torch.int32).unsqueeze(0)
        # A length of 0 (a warm-up request) gives a zero question, not a division by zero.
        share = (place < query_length).double() / query_length.double().clamp(min=1.0)
        mean = share.unsqueeze(1) @ rows
        projected, to_balancer = mean[..., : self.width], mean[..., self.width :]
        return projected + self.question_shift, to_balancer.squeeze(1)

    def forward(
        self, pixels: torch.Tensor, query_ids: torch.Tensor, query_length: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Select the token cells to keep.

        Args:
            pixels: uint8 [B, rows * cell, cols * cell, 3]; or [B, P, ...] with P pictures, each
                scored for itself, of whose cells together K are kept.
            query_ids: int32 [B, L], right-padded with any valid id.
            query_length: int32 [B, 1].

        Returns:
            Kept indices int32 [B, K], most relevant first, and relevance fp32 [B, rows, cols]
            ([B, P * rows, cols] with P pictures, one below the other).
        """
        textures = self._textures(pixels)
        wanted, to_balancer = self._question(query_ids, query_length)
        batch, several = pixels.shape[0], pixels.ndim == 5
        if several:
            # The question is the same for each picture.
            wanted, to_balancer = (
                x.unsqueeze(1).expand(-1, pixels.shape[1], *x.shape[1:]).flatten(0, 1)
                for x in (wanted, to_balancer)
            )
        mass = textures.exp()
        total = mass.sum(dim=1, keepdim=True) + self.place_mass
        moment = (mass * textures).sum(dim=1, keepdim=True) + self.place_moment
        entropy = (torch.log(total) - moment / total) / math.log(len(CHANNELS))
        magnitude = textures[:, 7:8]
        salience = magnitude / magnitude.amax(dim=2, keepdim=True).clamp(min=TINY)
        cells = self.cells_weight @ textures + self.cells_shift
        length = torch.linalg.vector_norm(cells, dim=1, keepdim=True)
        wanted_length = torch.linalg.vector_norm(wanted, dim=2, keepdim=True)
        half_product = (wanted @ self.question_weight) @ cells
        agreement = 0.5 + half_product / (length * wanted_length).clamp(min=TINY)
        scores = torch.cat((entropy, salience, agreement), dim=1)
        weights = self.balancer.weigh(scores, to_balancer)
        relevance = (weights.unsqueeze(1) @ scores).squeeze(1)
        if several:
            joint = relevance.reshape(batch, -1)
            return allocate(joint, self.kept), joint.reshape(batch, -1, self.grid[1]).float()
        return allocate(relevance, self.kept), relevance.reshape(-1, *self.grid).float()

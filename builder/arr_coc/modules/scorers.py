"""The three ways of knowing: each scores every token cell, for each picture on its own.

No score of one picture depends on another picture of the batch: every minimum, maximum or mean
is taken over the cells of one picture.
"""

import math

import torch
from torch import nn

from builder.arr_coc.modules.texture import CHANNELS

_SOBEL_MAGNITUDE = CHANNELS.index("sobel_magnitude")
TINY = 1e-12


def propositional(texture: torch.Tensor) -> torch.Tensor:
    """Information: the entropy of a cell's channels, relative to its maximum.

    Args:
        texture: [B, N, C].

    Returns:
        [B, N], 0 to 1.
    """
    log_p = torch.log_softmax(texture, dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1) / math.log(texture.shape[-1])


def perspectival(texture: torch.Tensor) -> torch.Tensor:
    """Salience: the edge magnitude of a cell, relative to the strongest edge of its picture.

    Args:
        texture: [B, N, C].

    Returns:
        [B, N], 0 to 1; zero everywhere in a picture without edges.
    """
    magnitude = texture[..., _SOBEL_MAGNITUDE]
    return magnitude / magnitude.amax(dim=-1, keepdim=True).clamp(min=TINY)


class Participatory(nn.Module):
    """Relevance to the question: cosine between projected textures and the projected query."""

    def __init__(self, query_dim: int, projection_dim: int) -> None:
        super().__init__()
        self.texture_projection = nn.Linear(len(CHANNELS), projection_dim)
        self.query_projection = nn.Linear(query_dim, projection_dim)

    def forward(self, texture: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """Score every cell.

        Args:
            texture: [B, N, 13].
            query: [B, D], the pooled embedding of the question.

        Returns:
            [B, N], 0 to 1 (a cosine of -1 to 1, halved and shifted).
        """
        cells = self.texture_projection(texture)
        wanted = self.query_projection(query)
        product = (cells * wanted.unsqueeze(1)).sum(dim=-1)
        cell_norm = torch.sqrt((cells**2).sum(dim=-1))
        wanted_norm = torch.sqrt((wanted**2).sum(dim=-1, keepdim=True))
        cosine: torch.Tensor = product / (cell_norm * wanted_norm).clamp(min=TINY)
        return 0.5 + 0.5 * cosine

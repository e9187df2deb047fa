"""The allocator: which K token cells are kept."""

import torch

_RESOLUTION = float(2**36)
"""Scores closer than 2**-36 count as equal; fp64 noise between runtimes is about 2**-50."""


def allocate(relevance: torch.Tensor, kept: int) -> torch.Tensor:
    """The most relevant cells, most relevant first; equal cells in raster order.

    The order is decided on integers that are all different, so every runtime and every top-K
    algorithm returns the same indices, also over flat areas whose cells score the same.

    Args:
        relevance: [B, N], within (-128, 128).
        kept: K, 1 to N.

    Returns:
        int32 [B, K].
    """
    cells = relevance.shape[-1]
    rank = torch.arange(cells - 1, -1, -1, dtype=torch.int64, device=relevance.device)
    key = torch.round(relevance.to(torch.float64) * _RESOLUTION).to(torch.int64) * cells + rank
    return torch.topk(key, kept, dim=-1).indices.to(torch.int32)

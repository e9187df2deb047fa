"""Keeping K of the visual tokens, and learning which from the answer loss.

Forward, K tokens are kept and the others dropped, exactly as it is served. Backward, each token
has a gate that multiplies its attention weight in every layer, so the loss says of every token,
kept or dropped, whether more of it would help; a soft top-K passes that on to the relevance.
(Soft gates in the forward pass were tried and failed: the language model turns up what the gates
turn down, and with K tokens kept for good the choice is worse than random.)
"""

import torch
from torch import nn

from builder.arr_coc.modules.relevance import Relevance, RelevanceConfig
from builder.arr_coc.modules.texture import texture_array


def build_relevance(width: int, seed: int) -> Relevance:
    """Relevance modules to train.

    Token embeddings are small (0.01 where a projection expects 1): without larger first weights
    the biases drown the question.
    """
    relevance = Relevance.untrained(RelevanceConfig(query_dim=width), seed).train()
    with torch.no_grad():
        relevance.participatory.query_projection.weight.mul_(30)
        relevance.balancer.query.weight.mul_(30)
        nn.init.zeros_(relevance.participatory.query_projection.bias)
    return relevance


def relevances(
    relevance: Relevance,
    pixels: torch.Tensor,
    query_ids: torch.Tensor,
    query_length: torch.Tensor,
    embeddings: torch.Tensor,
    grid: tuple[int, int],
) -> torch.Tensor:
    """Relevance [B, Q, N] of every cell to every question.

    Args:
        relevance: The modules.
        pixels: uint8 [B, H, W, 3].
        query_ids: int64 [B, Q, L], right-padded.
        query_length: int64 [B, Q].
        embeddings: [V, D].
        grid: Cells (rows, cols).
    """
    batch, questions, length = query_ids.shape
    texture = texture_array(pixels, *grid, dtype=relevance.dtype)
    query = relevance.pool(embeddings, query_ids.reshape(-1, length), query_length.reshape(-1, 1))
    scores, _, _ = relevance.scores(texture.repeat_interleave(questions, dim=0), query)
    return scores.view(batch, questions, -1)


def gates(relevance: torch.Tensor, kept: torch.Tensor, temperature: float) -> torch.Tensor:
    """Gates [..., N]: exactly 1 for the `kept` [...] most relevant cells and 0 for the others.

    The gradient is that of a soft top-K (Bengio et al., "Estimating or propagating gradients
    through stochastic neurons", 2013: straight-through): sigmoids that sum to `kept`, of the
    relevance scaled to deviation 1 within its picture, over `temperature`.
    """
    spread = relevance.std(dim=-1, keepdim=True).clamp(min=1e-6)
    z = (relevance - relevance.mean(dim=-1, keepdim=True)) / spread / temperature
    with torch.no_grad():
        rank = relevance.argsort(dim=-1, descending=True).argsort(dim=-1)
        hard = (rank < kept.round().unsqueeze(-1)).to(relevance.dtype)
        low, high = z.amin(-1) - 20, z.amax(-1) + 20
        for _ in range(40):
            middle = (low + high) / 2
            many = torch.sigmoid(z - middle.unsqueeze(-1)).sum(-1) > kept
            low, high = torch.where(many, middle, low), torch.where(many, high, middle)
        soft = torch.sigmoid(z - middle.unsqueeze(-1))
        slope = soft * (1 - soft) + 1e-12
        share = slope / slope.sum(-1, keepdim=True)
    # The threshold moves with the relevance, so that the sum stays (implicit derivative).
    threshold = middle + (share * (z - z.detach())).sum(-1)
    soft = torch.sigmoid(z - threshold.unsqueeze(-1))
    return hard + soft - soft.detach()


def top(relevance: torch.Tensor, kept: int) -> torch.Tensor:
    """Indices int64 [..., K] of the most relevant cells, in raster order."""
    return relevance.topk(kept, dim=-1).indices.sort(dim=-1).values

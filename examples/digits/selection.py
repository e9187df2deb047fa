"""Keeping K of the visual tokens: hard, as it is served, and soft, as it is learned.

Soft: every token of a question gets a gate in 0..1, the gates of a picture sum to K, and the log
of the gate is added to the attention scores of the token's key, in every layer. A token with gate
0 is then as good as dropped, and the answer loss reaches the relevance of kept and dropped tokens
alike. The temperature goes down until the gates are all but hard.
"""

import torch
from torch import nn

from builder.arr_coc.relevance import Relevance, RelevanceConfig
from builder.arr_coc.texture import texture_array

_LOWEST = -30.0


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


def soft_gates(relevance: torch.Tensor, kept: torch.Tensor, temperature: float) -> torch.Tensor:
    """Log gates [..., N]; gates are in 0..1 and sum to `kept` [...] (a soft top-K).

    Relevance [..., N] is first scaled to deviation 1 within its picture, which changes no order.
    """
    spread = relevance.std(dim=-1, keepdim=True).clamp(min=1e-6)
    z = (relevance - relevance.mean(dim=-1, keepdim=True)) / spread / temperature
    with torch.no_grad():
        low, high = z.amin(-1) - 20, z.amax(-1) + 20
        for _ in range(40):
            middle = (low + high) / 2
            many = torch.sigmoid(z - middle.unsqueeze(-1)).sum(-1) > kept
            low, high = torch.where(many, middle, low), torch.where(many, high, middle)
        gates = torch.sigmoid(z - middle.unsqueeze(-1))
        slope = gates * (1 - gates) + 1e-12
        share = slope / slope.sum(-1, keepdim=True)
    # The threshold moves with the relevance, so that the sum stays (implicit derivative).
    threshold = middle + (share * (z - z.detach())).sum(-1)
    return nn.functional.logsigmoid(z - threshold.unsqueeze(-1)).clamp(min=_LOWEST)


def top(relevance: torch.Tensor, kept: int) -> torch.Tensor:
    """Indices int64 [..., K] of the most relevant cells, in raster order."""
    return relevance.topk(kept, dim=-1).indices.sort(dim=-1).values

"""The balancer: how much each of the three scores counts for this picture and question."""

import torch
from torch import nn


class Balancer(nn.Module):
    """A small MLP from score summaries and the query to three weights."""

    def __init__(self, query_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.summary = nn.Linear(9, hidden_dim)
        self.query = nn.Linear(query_dim, hidden_dim, bias=False)
        self.output = nn.Linear(hidden_dim, 3)

    def forward(self, scores: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """Weigh the three scores.

        Args:
            scores: [B, 3, N].
            query: [B, D], the pooled embedding of the question.

        Returns:
            [B, 3], positive, sum 1.
        """
        return self.weigh(scores, self.query(query))

    def weigh(self, scores: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """Weigh the three scores, the query layer's output [B, hidden] given."""
        mean = scores.mean(dim=-1)
        deviation = torch.sqrt(((scores - mean.unsqueeze(-1)) ** 2).mean(dim=-1))
        summary = torch.cat((mean, deviation, scores.amax(dim=-1)), dim=-1)
        hidden = torch.tanh(self.summary(summary) + query)
        return torch.softmax(self.output(hidden), dim=-1)

"""Relevance: which token cells of a picture matter for a question."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from builder.arr_coc.modules.allocator import allocate
from builder.arr_coc.modules.balancer import Balancer
from builder.arr_coc.modules.scorers import Participatory, perspectival, propositional
from builder.arr_coc.modules.texture import texture_array
from builder.errors import CheckpointError

CONFIG_NAME = "arr_coc_config.json"
WEIGHTS_NAME = "arr_coc.safetensors"


@dataclass(frozen=True)
class RelevanceConfig:
    """Sizes of the relevance modules.

    Attributes:
        query_dim: Width of the language model's token embeddings.
        projection_dim: Width in which textures and query are compared.
        balancer_dim: Hidden width of the balancer.
    """

    query_dim: int
    projection_dim: int = 32
    balancer_dim: int = 32


class Relevance(nn.Module):
    """Texture array, three scorers, balancer and allocator.

    The embedding table is the language model's own; it is handed in at every call, not owned.
    """

    def __init__(self, config: RelevanceConfig) -> None:
        super().__init__()
        self.config = config
        self.participatory = Participatory(config.query_dim, config.projection_dim)
        self.balancer = Balancer(config.query_dim, config.balancer_dim)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype that the scores are computed in."""
        return self.participatory.query_projection.weight.dtype

    def pool(
        self, embeddings: torch.Tensor, query_ids: torch.Tensor, query_length: torch.Tensor
    ) -> torch.Tensor:
        """Mean embedding of the question's tokens; padding never enters.

        Args:
            embeddings: [V, D], the language model's token embeddings.
            query_ids: int [B, L], right-padded with any valid id.
            query_length: int [B, 1], tokens that are not padding.

        Returns:
            [B, D].
        """
        vectors = nn.functional.embedding(query_ids.to(torch.int64), embeddings).to(self.dtype)
        place = torch.arange(query_ids.shape[1], device=query_ids.device)
        mask = (place.unsqueeze(0) < query_length).to(self.dtype)
        # A length of 0 (a warm-up request) gives a zero query, not a division by zero.
        return (vectors * mask.unsqueeze(-1)).sum(dim=1) / query_length.clamp(min=1).to(self.dtype)

    def scores(
        self, texture: torch.Tensor, query: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Differentiable part: relevance of every cell.

        Args:
            texture: [B, N, 13].
            query: [B, D].

        Returns:
            Relevance [B, N], the three scores [B, 3, N], their weights [B, 3].
        """
        scores = torch.stack(
            (propositional(texture), perspectival(texture), self.participatory(texture, query)),
            dim=1,
        )
        weights = self.balancer(scores, query)
        return (scores * weights.unsqueeze(-1)).sum(dim=1), scores, weights

    def forward(
        self,
        pixels: torch.Tensor,
        query_ids: torch.Tensor,
        query_length: torch.Tensor,
        embeddings: torch.Tensor,
        grid: tuple[int, int],
        kept: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Select the token cells to keep.

        Args:
            pixels: uint8 [B, H, W, 3].
            query_ids: int [B, L], right-padded.
            query_length: int [B, 1].
            embeddings: [V, D].
            grid: Token cells (rows, cols).
            kept: K.

        Returns:
            Kept indices int32 [B, K], most relevant first, and relevance [B, rows, cols].
        """
        texture = texture_array(pixels, *grid, dtype=self.dtype)
        query = self.pool(embeddings, query_ids, query_length)
        relevance, _, _ = self.scores(texture, query)
        return allocate(relevance, kept), relevance.reshape(-1, *grid)

    def save_pretrained(self, folder: Path) -> None:
        """Write config and weights beside the language model's own files."""
        (folder / CONFIG_NAME).write_text(json.dumps(asdict(self.config), indent=2) + "\n")
        save_file(
            {k: v.float().contiguous() for k, v in self.state_dict().items()}, folder / WEIGHTS_NAME
        )

    @classmethod
    def from_pretrained(cls, folder: Path) -> "Relevance":
        """Load from a checkpoint folder.

        Raises:
            CheckpointError: a file is missing or does not fit.
        """
        try:
            config = RelevanceConfig(**json.loads((folder / CONFIG_NAME).read_text()))
            module = cls(config)
            module.load_state_dict(load_file(folder / WEIGHTS_NAME))
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{folder} has no {Path(str(error.filename)).name}: an arr-coc checkpoint holds "
                f"the relevance modules beside the language model ({CONFIG_NAME}, {WEIGHTS_NAME}); "
                "for a base model set checkpoint.relevance to untrained"
            ) from error
        except Exception as error:
            raise CheckpointError(
                f"{folder}: the relevance modules do not load: {error}"
            ) from error
        return module.eval()

    @classmethod
    def untrained(cls, config: RelevanceConfig, seed: int) -> "Relevance":
        """Freshly initialized modules, the same ones for the same seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config).eval()

"""The next token from logits: greedy, or temperature with top-k and top-p."""

import numpy as np
from numpy.typing import NDArray

from .options import GenerationOptions


class Sampler:
    """Chooses tokens for one request from a random stream of its own.

    One uniform number a token is drawn, so a seed gives the same answer whatever else runs.
    """

    def __init__(self, options: GenerationOptions) -> None:
        self._options = options
        self._random = np.random.Generator(np.random.Philox(options.seed))

    def __call__(self, logits: NDArray[np.float32]) -> int:
        """Choose a token.

        Args:
            logits: fp32 [V].
        """
        options = self._options
        if options.temperature == 0.0 or options.top_k == 1:
            return int(logits.argmax())
        candidates, probabilities = self._candidates(logits)
        cumulative = np.cumsum(probabilities)
        draw = self._random.random() * cumulative[-1]
        chosen = int(np.searchsorted(cumulative, draw, side="right"))
        return int(candidates[min(chosen, candidates.size - 1)])

    def _candidates(
        self, logits: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Ids by falling probability after top-k and top-p, and their probabilities.

        Top-k comes first and top-p counts within what it left, as in transformers' warpers.
        """
        top_k = self._options.top_k
        if 0 < top_k < logits.size:
            ids = np.argpartition(-logits, top_k)[:top_k]
        else:
            ids = np.arange(logits.size)
        ids = ids[np.argsort(-logits[ids], kind="stable")]
        scaled = logits[ids].astype(np.float64)
        scaled = (scaled - scaled[0]) / self._options.temperature
        weights = np.exp(scaled)
        weights /= weights.sum()
        if self._options.top_p < 1.0:
            # The token that crosses the border still counts: at least one always stays.
            before = np.cumsum(weights) - weights
            count = int((before < self._options.top_p).sum())
            ids, weights = ids[:count], weights[:count]
        return ids, weights

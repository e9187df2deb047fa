"""The next token from logits: greedy, or temperature with top-k and top-p."""

import numpy as np
from numpy.typing import NDArray

from .options import GenerationOptions


class Sampler:
    """Chooses tokens for one request from a random stream of its own.

    One uniform number a token is drawn, so a seed gives the same answer whatever else runs and
    however many tokens a step verifies.
    """

    def __init__(
        self, options: GenerationOptions, prompt_ids: NDArray[np.int64] | None = None
    ) -> None:
        """Start the stream.

        Args:
            options: What the client asked for.
            prompt_ids: int64 [S]; they count as repeated, as in transformers.
        """
        self._options = options
        self.logprob = 0.0
        """Log-probability of the last token under the logits (after the penalty, before temperature
        and the cuts), where it is wanted."""
        self._random = np.random.Generator(np.random.Philox(options.seed))
        self._seen: set[int] | None = None
        if options.repetition_penalty != 1.0:
            self._seen = set() if prompt_ids is None else set(prompt_ids.tolist())

    def __call__(self, logits: NDArray[np.float32]) -> int:
        """Choose a token.

        Args:
            logits: fp32 [V].
        """
        if self._seen is not None:
            logits = self._penalized(logits)
        token = self._choose(logits)
        if self._seen is not None:
            self._seen.add(token)
        if self._options.logprobs:
            self.logprob = _log_probability(logits, token)
        return token

    def _penalized(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        assert self._seen is not None
        seen = np.fromiter(self._seen, dtype=np.int64)
        seen = seen[seen < logits.size]
        penalty = np.float32(self._options.repetition_penalty)
        values = logits[seen]
        logits = logits.copy()
        logits[seen] = np.where(values > 0, values / penalty, values * penalty)
        return logits

    def _choose(self, logits: NDArray[np.float32]) -> int:
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


def _log_probability(logits: NDArray[np.float32], token: int) -> float:
    wide = logits.astype(np.float64)
    wide -= wide.max()
    return float(wide[token] - np.log(np.exp(wide).sum()))

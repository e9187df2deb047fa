"""Settings of the stage `join`."""

from dataclasses import dataclass

from ..tokenize.tokenize_settings import TokenizeSettings


@dataclass(frozen=True)
class JoinSettings(TokenizeSettings):
    """Which graph is asked, and in which batches.

    Attributes:
        batch_tokens: What one more batch costs, in tokens.
        model: Name of the graph's model.
        model_version: Its version.
        model_inputs: Its inputs.
        model_max_batch_size: Its largest batch.
        model_outputs: Its outputs.
    """

    batch_tokens: int
    model: str
    model_version: int
    model_inputs: tuple[str, ...]
    model_max_batch_size: int
    model_outputs: tuple[str, ...]

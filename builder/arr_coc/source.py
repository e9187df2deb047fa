"""Loading an arr-coc checkpoint: base model, tokenizer, relevance modules."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2VLForConditionalGeneration, Qwen3VLForConditionalGeneration
from transformers.utils.hub import cached_file

from builder.arr_coc.facts import SourceFacts, load_facts
from builder.arr_coc.modules.relevance import CONFIG_NAME, WEIGHTS_NAME, Relevance, RelevanceConfig
from builder.checkpoint.hub import checkpoint_errors, hub_options, resolve_source
from builder.checkpoint.pickles import refuse_pickles
from builder.errors import CheckpointError
from builder.spec.models import Checkpoint

_MODELS = {
    "qwen2_vl": Qwen2VLForConditionalGeneration,
    "qwen3_vl": Qwen3VLForConditionalGeneration,
}


@dataclass(frozen=True)
class ArrCoc:
    """A loaded checkpoint.

    Attributes:
        facts: What is known without the weights.
        model: `Qwen2VLForConditionalGeneration` or its Qwen3-VL sibling, fp32, eval.
        relevance: The relevance modules in fp64, eval.
    """

    facts: SourceFacts
    model: Any
    relevance: Relevance

    @property
    def visual(self) -> Any:
        """The vision tower."""
        return self.model.model.visual

    @property
    def text_model(self) -> Any:
        """The language model without its head."""
        return self.model.model.language_model

    @property
    def embeddings(self) -> torch.Tensor:
        """Token embeddings [V, D]."""
        weight: torch.Tensor = self.text_model.embed_tokens.weight
        return weight


def _relevance(source: str, checkpoint: Checkpoint, width: int, seed: int) -> Relevance:
    if checkpoint.relevance == "untrained":
        return Relevance.untrained(RelevanceConfig(query_dim=width), seed)
    names = (CONFIG_NAME, WEIGHTS_NAME)
    if Path(source).is_dir():
        folder = Path(source)
    else:  # fetches them
        files = [cached_file(source, name, revision=checkpoint.revision) for name in names]
        folder = Path(str(files[0])).parent
    relevance = Relevance.from_pretrained(folder)
    if relevance.config.query_dim != width:
        raise CheckpointError(
            f"{source}: the relevance modules expect embeddings of {relevance.config.query_dim}, "
            f"the language model has {width}"
        )
    return relevance


def load_checkpoint(
    checkpoint: Checkpoint, base: Path, seed: int = 0, facts: SourceFacts | None = None
) -> ArrCoc:
    """Load a checkpoint from a local folder or the hub; safetensors only.

    Args:
        checkpoint: Where it is.
        base: Folder that local paths are relative to.
        seed: For untrained relevance modules.
        facts: What `load_facts` gave for it; None: they are read.

    Raises:
        CheckpointError: missing, damaged, or of a kind that is not supported.
    """
    source = resolve_source(checkpoint, base)
    facts = facts or load_facts(checkpoint, base)
    refuse_pickles(source)
    with checkpoint_errors(source):
        model = (
            _MODELS[facts.model_type]
            .from_pretrained(
                source,
                dtype=torch.float32,
                use_safetensors=True,
                attn_implementation="sdpa",
                **hub_options(checkpoint),
            )
            .eval()
        )
        relevance = _relevance(source, checkpoint, facts.hidden_size, seed)
    return ArrCoc(facts, model, relevance.double())

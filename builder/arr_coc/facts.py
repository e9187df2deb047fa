"""What is known of a checkpoint without loading its weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig
from transformers.utils.constants import (
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)
from transformers.utils.hub import cached_file

from builder.arr_coc.prompt import PromptFormat
from builder.checkpoint.bounds import refuse_absurd_sizes
from builder.checkpoint.hub import checkpoint_errors, hub_options, resolve_source
from builder.errors import CheckpointError
from builder.spec.models import Checkpoint

SUPPORTED = ("qwen2_vl", "qwen3_vl")
"""Base model types that can be built."""


@dataclass(frozen=True)
class SourceFacts:
    """Facts of a checkpoint.

    Attributes:
        model_type: One of `SUPPORTED`.
        cell_size: Pixels on a side of a token cell.
        hidden_size: Width of the language model and of the visual embeddings.
        deepstack_layers: DeepStack features of a visual token, each added behind one of the first
            decoder layers; 0 where the family has none.
        prompt: The chat format around a question.
        image_mean: Mean of each colour, 0 to 1.
        image_std: Standard deviation of each colour.
        image_token_id: Id of the image placeholder.
        end_token_ids: Ids that end an answer.
        tokenizer: The checkpoint's fast tokenizer.
    """

    model_type: str
    cell_size: int
    hidden_size: int
    deepstack_layers: int
    prompt: PromptFormat
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    image_token_id: int
    end_token_ids: tuple[int, ...]
    tokenizer: Any


# What each family's image processor normalizes with where its config does not say.
_COLOURS = {
    "qwen2_vl": (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
    "qwen3_vl": (IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD),
}


def _normalization(
    source: str, revision: str | None, model_type: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Colour mean and deviation, read as JSON: the processor class would need torchvision."""
    path = cached_file(
        source,
        "preprocessor_config.json",
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
    )
    config = json.loads(Path(path).read_text()) if path else {}
    mean = config.get("image_mean", _COLOURS[model_type][0])
    std = config.get("image_std", _COLOURS[model_type][1])
    return tuple(float(v) for v in mean), tuple(float(v) for v in std)


def _end_tokens(source: str, revision: str | None, tokenizer: Any) -> tuple[int, ...]:
    try:
        ends = GenerationConfig.from_pretrained(source, revision=revision).eos_token_id
    except OSError:
        ends = None
    if ends is None:
        ends = tokenizer.eos_token_id
    values = ends if isinstance(ends, list) else [ends]
    tokens = tuple(int(value) for value in values if value is not None)
    if not tokens:
        raise CheckpointError(f"checkpoint {source} names no end-of-sequence token")
    return tokens


def load_facts(checkpoint: Checkpoint, base: Path) -> SourceFacts:
    """Read config and tokenizer of a checkpoint.

    Args:
        checkpoint: Where it is.
        base: Folder that local paths are relative to.

    Raises:
        CheckpointError: missing, damaged, or of a kind that is not supported.
    """
    source = resolve_source(checkpoint, base)
    with checkpoint_errors(source):
        refuse_absurd_sizes(source, checkpoint.revision)
        config = AutoConfig.from_pretrained(source, **hub_options(checkpoint))
        if config.model_type not in SUPPORTED:
            raise CheckpointError(
                f"{source} is a '{config.model_type}' model; an arr-coc pipeline is built from "
                f"{' or '.join(SUPPORTED)}"
            )
        tokenizer = AutoTokenizer.from_pretrained(source, **hub_options(checkpoint))
        mean, std = _normalization(source, checkpoint.revision, config.model_type)
        vision = config.vision_config
        return SourceFacts(
            model_type=config.model_type,
            cell_size=int(vision.patch_size) * int(vision.spatial_merge_size),
            hidden_size=int(config.text_config.hidden_size),
            deepstack_layers=len(getattr(vision, "deepstack_visual_indexes", ())),
            prompt=PromptFormat.from_tokenizer(tokenizer),
            image_mean=mean,
            image_std=std,
            image_token_id=int(config.image_token_id),
            end_token_ids=_end_tokens(source, checkpoint.revision, tokenizer),
            tokenizer=tokenizer,
        )

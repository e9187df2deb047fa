"""Loading an arr-coc checkpoint: base model, tokenizer, relevance modules."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, Qwen2VLForConditionalGeneration
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.utils.hub import cached_file

from builder.arr_coc.prompt import PromptFormat
from builder.arr_coc.relevance import CONFIG_NAME, WEIGHTS_NAME, Relevance, RelevanceConfig
from builder.errors import CheckpointError
from builder.spec.models import Checkpoint

SUPPORTED = ("qwen2_vl",)
"""Base model types that can be built."""

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class ArrCoc:
    """A loaded checkpoint.

    Attributes:
        model: `Qwen2VLForConditionalGeneration`, fp32, eval.
        tokenizer: The checkpoint's fast tokenizer.
        relevance: The relevance modules in fp64, eval.
        prompt: The chat format around a question.
        image_mean: Mean of each colour, 0 to 1.
        image_std: Standard deviation of each colour.
        end_tokens: Ids that end an answer.
        files: Local files that the weights and settings came from.
    """

    model: Any
    tokenizer: Any
    relevance: Relevance
    prompt: PromptFormat
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    end_tokens: tuple[int, ...]
    files: tuple[Path, ...]

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

    @property
    def image_token(self) -> int:
        """Id of the image placeholder."""
        return int(self.model.config.image_token_id)

    @property
    def cell_size(self) -> int:
        """Pixels on a side of a token cell."""
        config = self.visual.config
        return int(config.patch_size) * int(config.spatial_merge_size)


def resolve_source(checkpoint: Checkpoint, base: Path) -> str:
    """A local folder, relative to the spec file, where there is one; else a hub id.

    Raises:
        CheckpointError: it looks like a path but is no folder.
    """
    local = (base / checkpoint.path).resolve()
    if local.is_dir():
        return str(local)
    looks_like_path = checkpoint.path.startswith((".", "/", "~")) or checkpoint.path.count("/") > 1
    if local.exists() or looks_like_path:
        raise CheckpointError(f"checkpoint {local} is not a folder; give a folder or a hub id")
    return checkpoint.path


def _relevance(source: str, checkpoint: Checkpoint, width: int, seed: int) -> tuple[Relevance, list[Path]]:
    if checkpoint.relevance == "untrained":
        return Relevance.untrained(RelevanceConfig(query_dim=width), seed), []
    files = [cached_file(source, n, revision=checkpoint.revision) for n in (CONFIG_NAME, WEIGHTS_NAME)]
    relevance = Relevance.from_pretrained(Path(str(files[0])).parent)
    if relevance.config.query_dim != width:
        raise CheckpointError(
            f"{source}: the relevance modules expect embeddings of {relevance.config.query_dim}, "
            f"the language model has {width}"
        )
    return relevance, [Path(str(file)) for file in files]


def _refuse_pickles(source: str) -> None:
    folder = Path(source)
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"{source} holds pickled weights ({pickles[0]}), which can run code when loaded; "
            "convert them to safetensors first"
        )
    raise CheckpointError(f"{source} has no *.safetensors file")


def load_checkpoint(checkpoint: Checkpoint, base: Path, seed: int = 0) -> ArrCoc:
    """Load a checkpoint from a local folder or the hub; safetensors only.

    Args:
        checkpoint: Where it is.
        base: Folder that local paths are relative to.
        seed: For untrained relevance modules.

    Raises:
        CheckpointError: missing, damaged, or of a kind that is not supported.
    """
    source = resolve_source(checkpoint, base)
    _refuse_pickles(source)
    common: dict[str, Any] = {
        "revision": checkpoint.revision,
        "trust_remote_code": checkpoint.trust_remote_code,
    }
    try:
        config = AutoConfig.from_pretrained(source, **common)
        if config.model_type not in SUPPORTED:
            raise CheckpointError(
                f"{source} is a '{config.model_type}' model; an arr-coc pipeline is built from "
                f"{' or '.join(SUPPORTED)}"
            )
        model = Qwen2VLForConditionalGeneration.from_pretrained(
            source, dtype=torch.float32, use_safetensors=True, attn_implementation="sdpa", **common
        ).eval()
        tokenizer = AutoTokenizer.from_pretrained(source, **common)
        relevance, extra = _relevance(
            source, checkpoint, int(config.text_config.hidden_size), seed
        )
        mean, std = _normalization(source, checkpoint)
        prompt = PromptFormat.from_tokenizer(tokenizer)
    except CheckpointError:
        raise
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"checkpoint {source} does not load: {first}") from error
    return ArrCoc(
        model=model,
        tokenizer=tokenizer,
        relevance=relevance.double(),
        prompt=prompt,
        image_mean=mean,
        image_std=std,
        end_tokens=_end_tokens(model, tokenizer),
        files=tuple(_files(source) or extra),
    )


def _files(source: str) -> list[Path]:
    folder = Path(source)
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file())


def _normalization(source: str, checkpoint: Checkpoint) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Colour mean and deviation from the image processor's config.

    Read as JSON: the processor class itself would need torchvision.
    """
    path = cached_file(
        source,
        "preprocessor_config.json",
        revision=checkpoint.revision,
        _raise_exceptions_for_missing_entries=False,
    )
    config = json.loads(Path(path).read_text()) if path else {}
    mean = config.get("image_mean", OPENAI_CLIP_MEAN)
    std = config.get("image_std", OPENAI_CLIP_STD)
    return tuple(float(v) for v in mean), tuple(float(v) for v in std)


def _end_tokens(model: Any, tokenizer: Any) -> tuple[int, ...]:
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    values = ends if isinstance(ends, list) else [ends]
    return tuple(int(value) for value in values if value is not None)

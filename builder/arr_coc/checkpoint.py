"""Loading an arr-coc checkpoint: base model, tokenizer, relevance modules."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2VLForConditionalGeneration, Qwen3VLForConditionalGeneration
from transformers.utils.hub import cached_file

from builder.arr_coc.facts import (
    SourceFacts,
    checkpoint_errors,
    hub_options,
    load_facts,
    resolve_source,
    snapshot,
)
from builder.arr_coc.relevance import CONFIG_NAME, WEIGHTS_NAME, Relevance, RelevanceConfig
from builder.errors import CheckpointError
from builder.publish.manifest import sha256
from builder.spec.models import Checkpoint

_MODELS = {
    "qwen2_vl": Qwen2VLForConditionalGeneration,
    "qwen3_vl": Qwen3VLForConditionalGeneration,
}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


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


def refuse_pickles(source: str) -> None:
    """Refuse a local checkpoint without safetensors.

    Raises:
        CheckpointError: its weights are pickled, or it has none.
    """
    folder = Path(source)
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"{source} holds pickled weights ({pickles[0]}), which can run code when loaded; "
            f"convert them to safetensors first: {_conversion(folder, pickles)}"
        )
    raise CheckpointError(f"{source} has no *.safetensors file")


def _conversion(folder: Path, pickles: list[str]) -> str:
    """A command that converts weights; it reads tensors only and runs no code of theirs."""
    whole = [name for name in pickles if name.startswith("pytorch_model")]
    pattern = shlex.quote(f"{folder}/{'pytorch_model*.bin' if whole else pickles[0]}")
    target = shlex.quote(f"{folder}/model.safetensors")
    code = (
        "import glob, sys, torch; from safetensors.torch import save_file; "
        "parts = [torch.load(f, map_location='cpu', weights_only=True) "
        "for f in sorted(glob.glob(sys.argv[1]))]; "
        "save_file({k: v.clone().contiguous() for p in parts for k, v in p.items()}, "
        "sys.argv[2], {'format': 'pt'})"
    )
    return f'python -c "{code}" {pattern} {target}'


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


def source_hashes(
    source: str, revision: str | None, hashed: Callable[[Path], str] = sha256
) -> dict[str, str]:
    """What a checkpoint is told apart by.

    Args:
        source: What `resolve_source` gives.
        revision: Of the hub; None: its main branch.
        hashed: Hash of a file.

    Returns:
        File name -> sha256 of a local folder; `commit` of a checkpoint on the hub.
    """
    folder = snapshot(source, revision)
    if not Path(source).is_dir():
        return {"commit": folder.name}
    return {path.name: hashed(path) for path in sorted(folder.iterdir()) if path.is_file()}

"""The checkpoint folder, in the standard Hugging Face layout, with the relevance modules in it."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, GenerationConfig, Qwen2VLForConditionalGeneration

from builder.arr_coc.modules.relevance import CONFIG_NAME, Relevance

from .model import build_model
from .network import Network
from .selection import build_relevance
from .state import STATE, load_state
from .tower import MEAN, STD
from .vocabulary import build_tokenizer


def save_checkpoint(folder: Path, model: Any, tokenizer: Any, relevance: Relevance | None) -> None:
    """Write config, safetensors, tokenizer, image processor and relevance modules."""
    folder.mkdir(parents=True, exist_ok=True)
    text, vision = model.config.text_config, model.config.vision_config
    model.config.dtype = torch.float32
    model.generation_config = GenerationConfig(
        eos_token_id=text.eos_token_id, pad_token_id=text.pad_token_id, do_sample=False
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2VLProcessor",
        "patch_size": vision.patch_size,
        "temporal_patch_size": vision.temporal_patch_size,
        "merge_size": vision.spatial_merge_size,
        "image_mean": list(MEAN),
        "image_std": list(STD),
        # One scene, 8 x 8 cells of 16 px: nothing else was seen in training.
        "size": {"shortest_edge": 128 * 128, "longest_edge": 128 * 128},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
    if relevance is not None:
        relevance.save_pretrained(folder)


def load_network(folder: Path) -> tuple[Network, Relevance | None, Any]:
    """Network, relevance modules (None where not trained yet) and tokenizer.

    `folder` is a checkpoint or the state of a training run.
    """
    if (folder / STATE).exists():
        tokenizer = build_tokenizer()
        network = Network(build_model(tokenizer), tokenizer)
        relevance = build_relevance(network.model.config.text_config.hidden_size, 0)
        progress = load_state(folder / STATE, {"network": network, "relevance": relevance})
        return network.eval(), relevance if progress["done"].get("select") else None, tokenizer
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = Qwen2VLForConditionalGeneration.from_pretrained(folder, use_safetensors=True)
    trained = Relevance.from_pretrained(folder) if (folder / CONFIG_NAME).exists() else None
    return Network(model, tokenizer).eval(), trained, tokenizer

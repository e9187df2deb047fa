"""Make a tiny arr-coc checkpoint with random weights, in the standard Hugging Face layout.

It answers nonsense, fast: for tests and for trying the tools. Usage:

    python examples/tiny/make_checkpoint.py [FOLDER] [qwen2_vl | qwen3_vl]
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    Qwen2TokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from builder.arr_coc.modules.relevance import Relevance, RelevanceConfig

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# Qwen2-VL's own, without videos.
CHAT_TEMPLATE = (
    "{% set image_count = namespace(value=0) %}"
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}"
    "{% set image_count.value = image_count.value + 1 %}"
    "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

CORPUS = (
    "What is in the picture? What colour is the cup? Which digit is at the top left?",
    "How many people are there? Is there a cat in the picture? Describe what you see.",
    "The cup is white and stands on a wooden table. There are two cats and one dog.",
    "Where is the spoon? It is to the left of the saucer, near the edge of the table.",
)


def make_tokenizer(vocabulary: int) -> Qwen2TokenizerFast:
    """A byte-level BPE tokenizer in Qwen2's form: any text tokenizes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in SPECIAL_TOKENS])
    return Qwen2TokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
    )


Sizes = tuple[dict[str, Any], dict[str, Any]]
"""Settings of the language model's and of the vision tower's config."""


def _qwen2_vl(sizes: Sizes, tokens: dict[str, int]) -> Qwen2VLForConditionalGeneration:
    text, vision = sizes
    rope = {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [2, 3, 3]}
    config = Qwen2VLConfig(
        text_config={"rope_parameters": rope, **text},
        vision_config={
            "depth": 2,
            "embed_dim": 64,
            "num_heads": 4,
            "hidden_size": text["hidden_size"],
            "mlp_ratio": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            **vision,
        },
        tie_word_embeddings=True,
        **tokens,
    )
    return Qwen2VLForConditionalGeneration(config)


def _qwen3_vl(sizes: Sizes, tokens: dict[str, int]) -> Qwen3VLForConditionalGeneration:
    text, vision = sizes
    rope = {"rope_type": "default", "rope_theta": 5_000_000.0, "mrope_section": [4, 2, 2]}
    config = Qwen3VLConfig(
        text_config={
            "head_dim": 16,
            "rope_parameters": {**rope, "mrope_interleaved": True},
            **text,
        },
        vision_config={
            "depth": 3,
            "hidden_size": 64,
            "num_heads": 4,
            "intermediate_size": 128,
            "out_hidden_size": text["hidden_size"],
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 36,
            "deepstack_visual_indexes": [0, 1],
            **vision,
        },
        tie_word_embeddings=True,
        **tokens,
    )
    return Qwen3VLForConditionalGeneration(config)


_FAMILIES = {"qwen2_vl": _qwen2_vl, "qwen3_vl": _qwen3_vl}


def make_checkpoint(
    folder: Path,
    seed: int = 0,
    family: str = "qwen2_vl",
    text_sizes: dict[str, Any] | None = None,
    vision_sizes: dict[str, Any] | None = None,
) -> None:
    """Write the checkpoint to `folder`; the same seed makes the same weights.

    Args:
        folder: Where to.
        seed: Of the weights.
        family: `qwen2_vl` or `qwen3_vl`.
        text_sizes: Settings of the language model's config to change.
        vision_sizes: Settings of the vision tower's config to change.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(512)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    hidden = (text_sizes or {}).get("hidden_size", 64)
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
        **(text_sizes or {}),
    }
    tokens = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }
    torch.manual_seed(seed)
    model = _FAMILIES[family]((text, vision_sizes or {}), tokens).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                # Large weights: answers then depend on the picture and the question.
                torch.nn.init.normal_(weight, std=1.5 / weight[0].numel() ** 0.5)
            elif "norm" not in name and "ln_q" not in name:
                torch.nn.init.normal_(weight, std=0.02)
    model.generation_config = GenerationConfig(
        eos_token_id=[ids["<|im_end|>"], ids["<|endoftext|>"]],
        pad_token_id=ids["<|endoftext|>"],
        do_sample=False,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    vision = model.config.vision_config
    colours = {
        "qwen2_vl": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
        "qwen3_vl": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    }
    processor = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": {"qwen2_vl": "Qwen2VLProcessor", "qwen3_vl": "Qwen3VLProcessor"}[family],
        "patch_size": vision.patch_size,
        "temporal_patch_size": vision.temporal_patch_size,
        "merge_size": vision.spatial_merge_size,
        "image_mean": colours[family][0],
        "image_std": colours[family][1],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
    relevance = Relevance.untrained(RelevanceConfig(query_dim=hidden), seed)
    relevance.save_pretrained(folder)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "checkpoint"
    make_checkpoint(target, family=sys.argv[2] if len(sys.argv) > 2 else "qwen2_vl")
    print(f"wrote {target}")

"""The model: Qwen2-VL's architecture at 2 million parameters, 16 px cells, one token a cell."""

from typing import Any

import torch
from torch import nn
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.configuration_qwen2_vl import (
    Qwen2VLTextConfig,
    Qwen2VLVisionConfig,
)

from .scenes import CELL
from .vocabulary import END, IMAGE, PAD, VIDEO, VISION_END, VISION_START

WIDTH = 128
HEADS = 4
TOWER_LAYERS = 4
LANGUAGE_LAYERS = 4


def model_config(tokenizer: Any) -> Qwen2VLConfig:
    """The configuration that goes with a tokenizer.

    Rotary bases are small because positions are: with Qwen2-VL's own (10,000 and 1,000,000) the
    columns of an 8 x 8 grid turn the slowest dims by less than 0.1 rad and cannot be told apart.
    """
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.get_vocab()}
    vision = Qwen2VLVisionConfig(
        depth=TOWER_LAYERS,
        embed_dim=WIDTH,
        hidden_size=WIDTH,
        num_heads=HEADS,
        patch_size=CELL,
        spatial_merge_size=1,
        rope_parameters={"rope_type": "axial", "rope_theta": 10.0},
    )
    text = Qwen2VLTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=LANGUAGE_LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 2,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 5.0, "mrope_section": [4, 6, 6]},
        bos_token_id=None,
        eos_token_id=ids[END],
        pad_token_id=ids[PAD],
    )
    return Qwen2VLConfig(
        text_config=text.to_dict(),
        vision_config=vision.to_dict(),
        image_token_id=ids[IMAGE],
        video_token_id=ids[VIDEO],
        vision_start_token_id=ids[VISION_START],
        vision_end_token_id=ids[VISION_END],
        tie_word_embeddings=True,
    )


def build_model(tokenizer: Any, seed: int = 0) -> Any:
    """A freshly initialized `Qwen2VLForConditionalGeneration`."""
    torch.manual_seed(seed)
    model = Qwen2VLForConditionalGeneration(model_config(tokenizer))
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.trunc_normal_(parameter, std=0.03)
    return model

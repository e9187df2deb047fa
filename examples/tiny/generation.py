"""Tiny checkpoints that generate text: random weights in the standard Hugging Face layout.

python -m examples.tiny.generation FOLDER FAMILY
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BartConfig,
    GenerationConfig,
    GPT2Config,
    LlamaConfig,
    MarianConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    T5Config,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from examples.tiny.make_checkpoint import make_tokenizer

CHAT_TEMPLATE: Final = (
    "{%- for message in messages %}\n"
    "    {%- if message.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' + message.role) }}{% endif %}\n"
    "    {{- '<|im_start|>' + message.role + '\\n' + message.content | trim + '<|im_end|>\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_LLAMA: Final[dict[str, Any]] = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
_ROPE: Final = {"rope_type": "default", "rope_theta": 10_000.0}
_LLAMA3: Final = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

CAUSAL: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "llama": lambda ids: LlamaConfig(**_LLAMA, rope_parameters=_LLAMA3, attention_bias=True, **ids),
    "mistral": lambda ids: MistralConfig(
        **_LLAMA, head_dim=16, rope_parameters=_ROPE, sliding_window=128, **ids
    ),
    "qwen2": lambda ids: Qwen2Config(
        **_LLAMA, rope_parameters=_ROPE, tie_word_embeddings=True, **ids
    ),
    "qwen3": lambda ids: Qwen3Config(**_LLAMA, head_dim=32, rope_parameters=_ROPE, **ids),
    "gpt2": lambda ids: GPT2Config(n_embd=64, n_layer=2, n_head=4, n_positions=256, **ids),
}
"""Model type -> its config."""


_BART: Final[dict[str, Any]] = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "max_position_embeddings": 256,
}
SEQ2SEQ: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "t5": lambda ids: T5Config(
        d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, n_positions=256, **ids
    ),
    "bart": lambda ids: BartConfig(**_BART, **ids),
    "marian": lambda ids: MarianConfig(**_BART, **ids),
}
"""Model type -> its config."""


def randomize(model: Any) -> None:
    """Weights so large that an answer depends on its prompt and does not repeat itself."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=1.5 / weight[0].numel() ** 0.5)
            elif name.endswith("bias"):
                torch.nn.init.normal_(weight, std=0.1)


def make_causal(folder: Path, family: str, seed: int = 0) -> None:
    """Write a decoder-only checkpoint with a byte-level tokenizer and a chat template.

    Args:
        folder: Where to.
        family: A key of `CAUSAL`.
        seed: Of the weights.
    """
    tokenizer = make_tokenizer(512)
    tokenizer.chat_template = CHAT_TEMPLATE
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    ids = {"vocab_size": len(tokenizer), "eos_token_id": end, "bos_token_id": None}
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CAUSAL[family]({**ids, "pad_token_id": 0})).eval()
    randomize(model)
    model.generation_config = GenerationConfig(eos_token_id=[end], pad_token_id=end)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_seq2seq(folder: Path, family: str, seed: int = 0, **generation: Any) -> None:
    """Write an encoder-decoder checkpoint whose tokenizer ends each text with its end token.

    Args:
        folder: Where to.
        family: A key of `SEQ2SEQ`.
        seed: Of the weights.
        generation: Settings of its generation config.
    """
    backend = make_tokenizer(512).backend_tokenizer
    pad, end = (backend.token_to_id(token) for token in ("<|endoftext|>", "<|im_end|>"))
    backend.post_processor = TemplateProcessing(
        single="$A <|im_end|>", special_tokens=[("<|im_end|>", end)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=256,
    )
    ids = {"eos_token_id": end, "pad_token_id": pad, "decoder_start_token_id": pad}
    torch.manual_seed(seed)
    config = SEQ2SEQ[family]({"vocab_size": len(tokenizer), **ids})
    model = AutoModelForSeq2SeqLM.from_config(config).eval()
    randomize(model)
    model.generation_config = GenerationConfig(**ids, **generation)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_whisper(folder: Path, seed: int = 0, *, multilingual: bool = True) -> None:
    """Write a Whisper checkpoint that hears one second.

    Args:
        folder: Where to.
        seed: Of the weights.
        multilingual: Whether it knows languages and tasks.
    """
    backend = make_tokenizer(480).backend_tokenizer
    special = ("<|startoftranscript|>", "<|en|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>")
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    start, english, german, transcribe, timeless = map(backend.token_to_id, special)
    end = backend.token_to_id("<|endoftext|>")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    ids = {"eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start}
    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_source_positions=50,
        max_target_positions=64,
        bos_token_id=end,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **ids,
    )
    model = WhisperForConditionalGeneration(config).eval()
    randomize(model)
    languages: dict[str, Any] = {
        "is_multilingual": True,
        "lang_to_id": {"<|en|>": english, "<|de|>": german},
        "task_to_id": {"transcribe": transcribe},
    }
    model.generation_config = GenerationConfig(
        **ids,
        max_length=64,
        no_timestamps_token_id=timeless,
        suppress_tokens=[5, 6, start, english, german, transcribe],
        begin_suppress_tokens=[220, end],
        return_timestamps=False,
        **(languages if multilingual else {"is_multilingual": False}),
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(chunk_length=1).save_pretrained(folder)


if __name__ == "__main__":
    make = make_causal if sys.argv[2] in CAUSAL else make_seq2seq
    make(Path(sys.argv[1]), sys.argv[2])

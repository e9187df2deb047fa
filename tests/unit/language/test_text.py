"""Streamed text is the text of the whole, whatever the tokenizer's decoder does at its start."""

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from builder.runtime.models.language.text import TextStream
from examples.tiny.make_checkpoint import CORPUS, make_tokenizer


def _byte_level() -> Tokenizer:
    return make_tokenizer(512).backend_tokenizer


def _llama() -> Tokenizer:
    """Spaces as letters, unknown characters as bytes, the first space not shown."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=[f"<0x{byte:02X}>" for byte in range(256)],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200,
        special_tokens=["<unk>", "</s>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


@pytest.mark.parametrize("make", [_byte_level, _llama, _unigram])
def test_streamed_text_is_the_whole_text(make: object) -> None:
    tokenizer = make()  # type: ignore[operator]
    rng = np.random.default_rng(0)
    for _ in range(500):
        ids = rng.integers(0, tokenizer.get_vocab_size(), rng.integers(1, 20)).tolist()
        stream = TextStream(tokenizer)
        pieces = [stream.push(token) for token in ids]
        text = "".join(pieces) + stream.finish()
        assert text == tokenizer.decode(ids, skip_special_tokens=True)


def test_a_space_behind_a_token_without_text_is_kept() -> None:
    tokenizer = _llama()
    ids = [*tokenizer.encode("the cup").ids, 2, *tokenizer.encode("is white").ids]
    stream = TextStream(tokenizer)
    assert "".join(map(stream.push, ids)) + stream.finish() == "the cup is white"

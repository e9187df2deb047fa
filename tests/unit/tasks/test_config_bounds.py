"""Absurd sizes in a config, and pickled weights: one sentence at once, with what to do."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from builder.checkpoint.files import open_checkpoint
from builder.cli import main
from builder.errors import CheckpointError
from builder.spec.task import TaskCheckpoint


@pytest.fixture
def copy(checkpoint: Any, tmp_path: Path) -> Path:
    """A checkpoint that a test may spoil."""
    return Path(shutil.copytree(checkpoint("bert text-classification"), tmp_path / "copy"))


def said_by_init(source: Path, folder: Path, monkeypatch: Any, capsys: Any) -> str:
    spec = folder / "new.yaml"
    monkeypatch.setattr(sys, "argv", ["builder", "init", str(source), "--output", str(spec)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and not spec.exists()
    return str(capsys.readouterr().err.strip())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 10**6),
        ("num_attention_heads", 0),
        ("num_attention_heads", -4),
        ("num_labels", 10**9),
        ("vocab_size", 10**12),
        ("hidden_size", 0),
        ("hidden_size", 10**30),
        ("intermediate_size", 1e300),
        ("max_position_embeddings", -1),
        ("text_config", {"num_hidden_layers": 10**6}),
        ("depths", [2, 10**6]),
    ],
)
def test_sizes_that_no_model_has(copy: Path, key: str, value: Any) -> None:
    path = copy / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(CheckpointError, match=rf"{key}.* is .*, which no model has"):
        open_checkpoint(TaskCheckpoint(path=str(copy)), copy)


def test_a_config_that_is_no_object(copy: Path) -> None:
    (copy / "config.json").write_text("[1, 2]")
    with pytest.raises(CheckpointError, match="is no JSON object"):
        open_checkpoint(TaskCheckpoint(path=str(copy)), copy)


def test_init_refuses_pickled_weights_with_a_command_that_converts(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    torch.save({"arguments": 1}, copy / "training_args.bin")
    message = said_by_init(copy, tmp_path, monkeypatch, capsys)
    assert "holds pickled weights (pytorch_model.bin)" in message
    found = re.search(r"convert them to safetensors first: (python -c .*)$", message)
    assert found is not None
    command = found[1].replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True)
    again = load_file(copy / "model.safetensors")
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    spec = tmp_path / "new.yaml"
    monkeypatch.setattr(sys, "argv", ["builder", "init", str(copy), "--output", str(spec)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None) and spec.is_file()

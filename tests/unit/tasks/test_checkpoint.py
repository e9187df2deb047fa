"""What is read of a checkpoint."""

from pathlib import Path

import pytest
from transformers import CLIPModel

from builder.checkpoint.files import open_checkpoint
from builder.errors import CheckpointError
from builder.spec.task import TaskCheckpoint
from examples.tiny.tasks import save_clip


def test_one_weight_is_read_without_the_others(tmp_path: Path) -> None:
    folder = save_clip(tmp_path / "clip")
    files = open_checkpoint(TaskCheckpoint(path=str(folder)), tmp_path)
    found = files.weight("logit_scale")
    assert found is not None
    assert float(found) == CLIPModel.from_pretrained(folder).logit_scale.item()
    assert files.weight("no such weight") is None

    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        files.weight("logit_scale")
    path.unlink()
    assert files.weight("logit_scale") is None

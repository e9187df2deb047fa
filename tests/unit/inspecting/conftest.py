"""Repositories of ensembles, from a few lines each."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from builder.inspect import ModelInfo, read_repository

MODEL_PY = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"

Step = tuple[str, Sequence[str], Sequence[str]]


def tensors(field: str, names: Sequence[str]) -> str:
    return "".join(
        f'{field} {{ name: "{name}" data_type: TYPE_FP32 dims: [4] }}\n' for name in names
    )


def step_text(step: Step) -> str:
    model, inputs, outputs = step
    maps = "".join(f'input_map {{ key: "{n}" value: "{n}" }} ' for n in inputs)
    maps += "".join(f'output_map {{ key: "{n}" value: "{n}" }} ' for n in outputs)
    return f'step {{ model_name: "{model}" model_version: -1 {maps} }}\n'


class RepositoryWriter:
    """Writes models into a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def python(self, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self.config(
            name, 'backend: "python"\n' + tensors("input", inputs) + tensors("output", outputs)
        )
        (self.root / name / "1" / "model.py").write_text(MODEL_PY)

    def ensemble(
        self, name: str, inputs: Sequence[str], outputs: Sequence[str], steps: Sequence[Step]
    ) -> None:
        scheduling = f"ensemble_scheduling {{\n{''.join(map(step_text, steps))}}}\n"
        self.config(
            name,
            'platform: "ensemble"\n'
            + tensors("input", inputs)
            + tensors("output", outputs)
            + scheduling,
        )

    def config(self, name: str, text: str) -> None:
        (self.root / name / "1").mkdir(parents=True)
        (self.root / name / "config.pbtxt").write_text(text)

    def read(self) -> dict[str, ModelInfo]:
        return {info.name: info for info in read_repository(self.root)}


@pytest.fixture
def repository(tmp_path: Path) -> RepositoryWriter:
    root = tmp_path / "repository"
    root.mkdir()
    return RepositoryWriter(root)

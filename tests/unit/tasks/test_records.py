"""Labelled data of a user, against the checkpoint's own labels."""

import json
from pathlib import Path

import numpy as np
import pytest

from builder.errors import SpecError
from builder.spec.releases import onnx_limits
from builder.tasks.export import export_graph
from builder.tasks.records import accuracy_of
from examples.tiny.tasks import labels, save_image_model

from .conftest import kind, run

LABELS = ("cat", "dog", "cup")


def test_labels_of_pictures_may_be_names(tmp_path: Path) -> None:
    folder = save_image_model(tmp_path / "vit", "vit", **labels(*LABELS))
    made = kind(folder, "image-classification")
    (graph,) = made.graphs()
    artifact = tmp_path / "model.onnx"
    export_graph(graph, artifact, "torch", onnx_limits("24.10"))
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (3, *graph.inputs[0].dims), np.uint8)
    (raw,) = run(graph, {"pixels": pixels})
    answers = [LABELS[place] for place in raw.argmax(1)]
    wrong = LABELS[raw[2].argmin()]
    data = tmp_path / "data.jsonl"

    def accuracy(*names: str) -> float:
        pairs = zip(pixels.tolist(), names, strict=True)
        data.write_text("\n".join(json.dumps({"pixels": p, "label": name}) for p, name in pairs))
        return accuracy_of(made, graph, data, artifact)

    assert accuracy(*answers) == 1
    assert accuracy(*answers[:2], wrong) == pytest.approx(2 / 3)
    with pytest.raises(SpecError, match="'bird' is none of the checkpoint's"):
        accuracy(*answers[:2], "bird")

"""Task builds with a precision and a cache, over a tiny checkpoint."""

import json
from pathlib import Path
from typing import Any

import pytest

from builder.build import Build
from builder.cache.store import Store
from builder.errors import BuilderError, ParityError, SpecError
from builder.progress import Progress
from builder.publish.manifest import read_manifest
from builder.spec.task import TaskSpec
from examples.tiny.tasks import labels, save_text_model

MODEL = "mood_model"
# Weights this large and small matrices round badly; what is tried here is the build.
LOOSE = {
    name: {"max_abs_error": 50.0, "min_cosine": 0.001}
    for name in ("bf16", "int8-dynamic", "int8-static")
}


class Steps(Progress):
    """Keeps what a build tells."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def step(self, text: str) -> None:
        self.texts.append(text)

    def detail(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("precision")
    save_text_model(
        root / "mood", "SequenceClassification", "bert", **labels("bad", "fair", "good")
    )
    lines = [{"text": f"text number {n} of some words", "label": "good"} for n in range(12)]
    (root / "data.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return root


def build(folder: Path, model: dict[str, Any], store: Store | None = None) -> tuple[Any, Steps]:
    spec = TaskSpec.model_validate(
        {
            "name": "mood",
            "task": "text-classification",
            "checkpoint": {"path": "mood"},
            "sequence_buckets": [16],
            "model": {"tolerances": LOOSE, **model},
        }
    )
    steps = Steps()
    report = Build(spec, folder / "spec.yaml", folder / "repository", steps, store).run()
    return report, steps


def exported(steps: Steps) -> bool:
    return f"export {MODEL}" in steps.texts


def test_an_unchanged_model_is_not_made_again(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    asked = {
        "precision": "int8-static",
        "calibration": {"data": "data.jsonl", "samples": 4},
        "evaluation": "data.jsonl",
    }
    first, steps = build(folder, asked, store)
    assert exported(steps) and f"calibrate {MODEL}: 4 of 4" in steps.texts
    path = folder / "repository" / MODEL / "1" / "model.onnx"
    made = path.read_bytes()
    outcome = read_manifest(folder / "repository").only.precision[MODEL]
    assert [v["precision"] for v in outcome["variants"]] == ["fp32", "int8-static"]
    assert 0 <= outcome["variants"][0]["accuracy"] <= 1
    assert first.precision[MODEL] == outcome

    again, steps = build(folder, asked, store)
    assert f"{MODEL} from the cache" in steps.texts and "load checkpoint" not in steps.texts
    assert path.read_bytes() == made and again.parity == first.parity
    assert again.precision == first.precision

    _, steps = build(folder, {"precision": "bf16"}, store)
    assert not exported(steps) and f"export of {MODEL} from the cache" in steps.texts

    for entry in (tmp_path / "cache" / "artifacts").iterdir():
        kept = entry / "files" / "model.onnx"
        kept.write_bytes(kept.read_bytes()[:-1] + b"\x00")
    _, steps = build(folder, asked, store)
    assert exported(steps)

    weights = folder / "mood" / "config.json"
    config = json.loads(weights.read_text())
    weights.write_text(json.dumps({**config, "layer_norm_eps": 1e-6}))
    _, steps = build(folder, asked, store)
    weights.write_text(json.dumps(config))
    assert exported(steps)


def test_another_engine_shares_the_export(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    build(folder, {}, store)
    report, steps = build(folder, {"engine": "openvino", "openvino": {"threads": 1}}, store)
    assert f"export of {MODEL} from the cache" in steps.texts and not exported(steps)
    assert f"verify {MODEL}" in steps.texts and all(row.passed for row in report.parity)


def test_no_cache_no_leftovers(folder: Path) -> None:
    _, steps = build(folder, {"precision": "int8-dynamic"})
    _, again = build(folder, {"precision": "int8-dynamic"})
    assert exported(steps) and exported(again)
    files = sorted(p.name for p in (folder / "repository" / MODEL / "1").iterdir())
    assert files == ["model.onnx"]


def test_over_its_tolerance_nothing_is_published(folder: Path) -> None:
    before = read_manifest(folder / "repository")
    strict = {"int4": {"max_abs_error": 1e-9, "min_cosine": 1.0}}
    with pytest.raises(ParityError, match="over tolerance"):
        build(folder, {"precision": "int4", "tolerances": strict})
    assert read_manifest(folder / "repository") == before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", r"bad\.jsonl:1: not JSON"),
        ("[1]", r"bad\.jsonl:1: not an object"),
        ('{"words": "a"}', "no 'text'"),
        ('{"input_ids": [[1]], "attention_mask": [1]}', "does not fit the graph"),
        ("", "no samples"),
        (None, "can't be read"),
    ],
)
def test_data_that_does_not_fit(folder: Path, text: str | None, sentence: str) -> None:
    (folder / "bad.jsonl").unlink(missing_ok=True)
    if text is not None:
        (folder / "bad.jsonl").write_text(text)
    asked = {"precision": "int8-static", "calibration": {"data": "bad.jsonl"}}
    with pytest.raises(BuilderError, match=sentence):
        build(folder, asked)


def test_a_label_that_the_checkpoint_does_not_know(folder: Path) -> None:
    (folder / "labels.jsonl").write_text('{"text": "a", "label": "ugly"}')
    with pytest.raises(SpecError, match="'ugly' is none of the checkpoint's"):
        build(folder, {"evaluation": "labels.jsonl"})

"""Builds: what is published is verified, and what fails publishes nothing."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from google.protobuf import text_format
from onnx import numpy_helper
from safetensors.torch import load_file, save_file
from tritonclient.grpc.model_config_pb2 import ModelConfig

from builder.arr_coc import recipe as recipe_module
from builder.arr_coc.export.vision import export_vision
from builder.arr_coc.facts import load_facts
from builder.arr_coc.source import ArrCoc
from builder.build import Build
from builder.cache.store import Store
from builder.errors import (
    BuilderError,
    CheckpointError,
    ParityError,
    PublishError,
    SpecError,
    ToolError,
)
from builder.progress import Progress
from builder.publish.manifest import read_manifest, sha256
from builder.recipes import drift_of
from builder.spec.load import load_spec
from builder.spec.models import Spec

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "examples" / "tiny" / "checkpoint"


class _Steps(Progress):
    def __init__(self) -> None:
        self.total = 0
        self.seen: list[str] = []

    def start(self, steps: int) -> None:
        self.total = steps

    def step(self, text: str) -> None:
        self.seen.append(text)


def write_spec(folder: Path, source: Path = CHECKPOINT, **changes: object) -> Path:
    document = {
        "name": "arr_coc",
        "checkpoint": {"path": str(source)},
        "grid": {"rows": 4, "cols": 6},
        "kept_tokens": 9,
        "stages": {"language": {"max_sequence_length": 256}},
        "limits": {"max_query_tokens": 32, "max_tokens": 32, "default_max_tokens": 8},
        **changes,
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def run(
    spec_path: Path, target: Path, only: str | None = None, store: Store | None = None
) -> _Steps:
    steps = _Steps()
    Build(load_spec(spec_path), spec_path, target, steps, store).run(only)
    return steps


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A spec of a small, not square grid and its repository; not to be changed."""
    folder = tmp_path_factory.mktemp("built")
    spec_path = write_spec(folder)
    steps = run(spec_path, folder / "repo")
    assert len(steps.seen) == steps.total
    return spec_path, folder / "repo"


def test_the_manifest_tells_what_was_built(built: tuple[Path, Path]) -> None:
    manifest = read_manifest(built[1])
    assert manifest.members["arr_coc"].models == [
        "preprocess",
        "vision",
        "relevance",
        "language",
        "arr_coc",
    ]
    assert manifest.only.source.files["model.safetensors"] == sha256(
        CHECKPOINT / "model.safetensors"
    )
    assert manifest.only.spec["kept_tokens"] == 9
    assert {row["artifact"] for row in manifest.only.parity} == {"vision", "relevance", "language"}
    assert all(row["passed"] for row in manifest.only.parity)
    on_disk = {str(p.relative_to(built[1])) for p in built[1].rglob("*") if p.is_file()} - {
        "manifest.json"
    }
    assert set(manifest.files) == on_disk


def test_no_stage_imports_the_builder_or_torch(built: tuple[Path, Path]) -> None:
    for path in built[1].rglob("*.py"):
        text = path.read_text()
        assert "import torch" not in text and "builder" not in text.split('"""', 2)[2], path


def test_only_one_model(built: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "repo"
    shutil.copytree(built[1], target)
    before = read_manifest(target).files
    marker = target / "vision" / "1" / "model.onnx"
    model = onnx.load(marker)
    model.doc_string = "old"
    onnx.save(model, marker)
    steps = run(built[0], target, only="relevance")
    assert onnx.load(marker).doc_string == "old"  # kept as it was
    after = read_manifest(target)
    assert after.files["language/1/decoder.onnx"] == before["language/1/decoder.onnx"]
    assert {row["artifact"] for row in after.only.parity} == {"vision", "relevance", "language"}
    assert "export relevance" in steps.seen and "export vision" not in steps.seen


def test_only_needs_a_known_name_and_a_built_repository(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match="no such model"):
        run(built[0], built[1], only="nothing")
    with pytest.raises(PublishError, match="build everything first"):
        run(built[0], tmp_path / "empty", only="vision")
    assert not (tmp_path / "empty").exists()


def test_an_unchanged_stage_comes_from_the_cache(tmp_path: Path) -> None:
    store, target = Store(tmp_path / "cache"), tmp_path / "repo"
    first = run(write_spec(tmp_path), target, store=store)
    made = read_manifest(target)
    assert "export vision" in first.seen and "from the cache" not in " ".join(first.seen)

    again = run(write_spec(tmp_path), target, store=store)
    cached = [f"{name} from the cache" for name in ("vision", "relevance", "language")]
    assert again.seen == ["render configs", *cached, "validate", "publish"]
    assert read_manifest(target).files == made.files
    assert read_manifest(target).only.parity == made.only.parity

    # How it is served changes no graph.
    served = {
        "vision": {"dynamic_batching": {"max_queue_delay_microseconds": 700}},
        "language": {"max_sequence_length": 256, "slots": 3},
    }
    other = run(write_spec(tmp_path, name="other", stages=served), tmp_path / "other", store=store)
    assert set(cached) < set(other.seen)
    assert "700" in (tmp_path / "other" / "vision" / "config.pbtxt").read_text()

    # One stage's own weights are not another's.
    small = {"language": {"max_sequence_length": 256, "weights": "int8"}}
    changed = run(write_spec(tmp_path, stages=small), target, store=store)
    assert cached[:2] == changed.seen[1:3] and "export language" in changed.seen

    fewer = run(write_spec(tmp_path, kept_tokens=8), target, store=store)
    assert {"export relevance", "load checkpoint"} < set(fewer.seen)


def test_another_checkpoint_is_not_taken_from_the_cache(tmp_path: Path, broken: Path) -> None:
    store = Store(tmp_path / "cache")
    run(write_spec(tmp_path, broken), tmp_path / "repo", store=store)
    weights = load_file(broken / "arr_coc.safetensors")
    save_file({k: v * 0.5 for k, v in weights.items()}, broken / "arr_coc.safetensors")
    steps = run(write_spec(tmp_path, broken), tmp_path / "repo", store=store)
    assert "export relevance" in steps.seen


def test_an_artifact_over_tolerance_publishes_nothing(
    built: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged export (one weight off) is caught by the parity check."""

    def damaged(source: ArrCoc, spec: Spec, path: Path) -> None:
        export_vision(source, spec, path)
        model = onnx.load(path)
        weight = max(model.graph.initializer, key=lambda t: int(np.prod(t.dims)))
        values = numpy_helper.to_array(weight).copy()
        values.flat[0] += 1.0
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        onnx.save(model, path)

    monkeypatch.setitem(recipe_module.EXPORTS, "vision", damaged)
    with pytest.raises(ParityError, match="vision image_embeds"):
        run(built[0], tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


def test_an_artifact_that_does_not_run_is_a_sentence(
    built: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def junk(source: ArrCoc, spec: Spec, path: Path) -> None:
        path.write_bytes(b"no graph")

    monkeypatch.setitem(recipe_module.EXPORTS, "vision", junk)
    with pytest.raises(ParityError, match="the exported vision does not run"):
        run(built[0], tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


def test_half_precision_for_a_gpu(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Built and verified on the CPU, where ONNX Runtime runs fp16 graphs too."""
    spec = load_spec(built[0]).model_copy(update={"target": "gpu"})
    Build(spec, built[0], tmp_path / "repo", _Steps()).run()
    weights = onnx.load(tmp_path / "repo" / "vision" / "1" / "model.onnx").graph.initializer
    assert any(weight.data_type == onnx.TensorProto.FLOAT16 for weight in weights)
    assert "KIND_GPU" in (tmp_path / "repo" / "vision" / "config.pbtxt").read_text()


def test_a_target_that_needs_what_is_not_installed_says_so(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    spec = load_spec(built[0]).model_copy(update={"target": "tensorrt"})
    with pytest.raises(ToolError, match="target tensorrt needs TensorRT"):
        Build(spec, built[0], tmp_path / "repo", _Steps()).run()
    assert not (tmp_path / "repo").exists()


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    shutil.copytree(CHECKPOINT, folder)
    return folder


def refused(tmp_path: Path, checkpoint: Path, **changes: object) -> str:
    with pytest.raises(BuilderError) as caught:
        run(write_spec(tmp_path, checkpoint, **changes), tmp_path / "repo")
    assert not (tmp_path / "repo").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_corrupt_safetensors(tmp_path: Path, broken: Path) -> None:
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "does not load" in refused(tmp_path, broken)


def test_pickled_weights_are_never_loaded(tmp_path: Path, broken: Path) -> None:
    (broken / "model.safetensors").rename(tmp_path / "away")
    (broken / "arr_coc.safetensors").rename(tmp_path / "away2")
    (broken / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert "pickled weights (pytorch_model.bin)" in refused(tmp_path, broken)


def test_missing_relevance_modules(tmp_path: Path, broken: Path) -> None:
    (broken / "arr_coc.safetensors").unlink()
    assert "set checkpoint.relevance to untrained" in refused(tmp_path, broken)


def test_another_kind_of_model(tmp_path: Path, broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    assert "'bert' model" in refused(tmp_path, broken)


def test_missing_checkpoint_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a folder"):
        run(write_spec(tmp_path, tmp_path / "none"), tmp_path / "repo")


def test_base_model_without_relevance_modules(tmp_path: Path, broken: Path) -> None:
    (broken / "arr_coc.safetensors").unlink()
    (broken / "arr_coc_config.json").unlink()
    spec_path = write_spec(
        tmp_path, broken, checkpoint={"path": str(broken), "relevance": "untrained"}
    )
    run(spec_path, tmp_path / "repo")
    assert (tmp_path / "repo" / "manifest.json").is_file()


def test_limits_of_requests_are_none_of_the_verification(tmp_path: Path) -> None:
    limits = {
        "max_query_tokens": 1,
        "max_image_pixels": 100,
        "max_tokens": 16,
        "default_max_tokens": 8,
    }
    run(write_spec(tmp_path, limits=limits), tmp_path / "repo")
    assert all(row["passed"] for row in read_manifest(tmp_path / "repo").only.parity)


@pytest.mark.parametrize(
    ("other", "pictures", "shape"),
    [((6, 4), 1, (24, -1, -1)), ((4, 9), 2, (-1, 4, -1)), ((8, 6), 1, (-1, -1, 6))],
    ids=["cells", "rows", "cols"],
)
def test_grids_may_share_a_side_or_their_number_of_cells(
    tmp_path: Path, other: tuple[int, int], pictures: int, shape: tuple[int, int, int]
) -> None:
    """What all grids share is fixed in the graph, and Triton refuses a config that frees it."""
    grids = [{"rows": other[0], "cols": other[1]}]
    spec_path = write_spec(tmp_path, grids=grids, max_pictures=pictures)
    run(spec_path, tmp_path / "repo")
    text = (tmp_path / "repo" / "vision" / "config.pbtxt").read_text()
    config = text_format.Parse(text, ModelConfig())
    cell = load_facts(load_spec(spec_path).checkpoint, tmp_path).cell_size
    sides = [side if side == -1 else side * cell for side in shape[1:]]
    assert list(config.input[0].dims)[-3:] == [*sides, 3]
    assert config.output[0].dims[0] == shape[0]


def test_no_room_for_a_prompt(tmp_path: Path) -> None:
    stages = {"language": {"max_sequence_length": 24}}
    said = refused(tmp_path, CHECKPOINT, stages=stages)
    least = int(re.search(r"they take (\d+) at least", said)[1])
    stages["language"]["max_sequence_length"] = least
    run(write_spec(tmp_path, stages=stages), tmp_path / "repo")
    stages["language"]["max_sequence_length"] = least - 1
    shutil.rmtree(tmp_path / "repo")
    assert f"{least - 1} has no room" in refused(tmp_path, CHECKPOINT, stages=stages)


def test_a_verification_picture_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"no picture")
    assert "photo.jpg is not a readable picture" in refused(
        tmp_path, CHECKPOINT, verify={"pictures": ["photo.jpg"]}
    )
    assert "none.jpg: No such file" in refused(
        tmp_path, CHECKPOINT, verify={"pictures": ["none.jpg"]}
    )


def test_drift_is_found(built: tuple[Path, Path], tmp_path: Path) -> None:
    spec = load_spec(built[0])
    assert drift_of(spec, built[0], built[1]) == []
    copy = tmp_path / "copy"
    shutil.copytree(built[1], copy)
    (copy / "vision" / "config.pbtxt").write_text("")
    (copy / "language" / "1" / "text.py").unlink()
    drift = drift_of(spec, built[0], copy)
    assert drift == ["language/1/text.py", "vision/config.pbtxt"]

"""Hub ids, from a hub cache on disk: no hub is reachable, and `HF_HUB_OFFLINE=1` says so."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from builder.publish.manifest import Manifest, read_manifest
from examples.tiny.tasks import labels, save_text_model

TINY = Path(__file__).parents[2] / "examples" / "tiny" / "checkpoint"
COMMITS = ("1" * 40, "2" * 40)


class Hub:
    """A hub cache in huggingface_hub's layout, and the command line that reads it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def publish(self, name: str, commit: str, files: Path) -> None:
        """Make a checkpoint the main branch of `ours/NAME`."""
        folder = self.root / "hf" / "hub" / f"models--ours--{name}"
        shutil.copytree(files, folder / "snapshots" / commit)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text(commit)

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """`builder ...` in a process of its own: the libraries read their settings once."""
        own = {"HF_HOME": str(self.root / "hf"), "HF_HUB_OFFLINE": "1"}
        own |= {"XDG_CACHE_HOME": str(self.root / "cache")}
        return subprocess.run(
            [sys.executable, "-m", "builder", *map(str, arguments)],
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            check=False,
            cwd=self.root,
        )

    def kept(self) -> set[str]:
        """Entries of the builder's own cache."""
        return {path.name for path in (self.root / "cache").glob("*/artifacts/*")}

    def build(self, spec: str, repository: str) -> Manifest:
        """The manifest of a build."""
        done = self.run("build", spec, "--output", repository)
        assert done.returncode == 0, done.stderr
        return read_manifest(self.root / repository)

    def assert_kept(self, spec: str, manifest: Manifest) -> None:
        """Built again, a spec gives the same files and the cache nothing new."""
        kept = self.kept()
        assert kept
        assert self.build(spec, "again").files == manifest.files
        assert self.kept() == kept


def scale(path: Path) -> None:
    """Other weights, all else as it was."""
    weights = {name: tensor * 1.5 for name, tensor in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A checkpoint to publish."""
    return save_text_model(
        tmp_path / "mood", "SequenceClassification", "bert", **labels("bad", "good")
    )


def test_a_task_of_a_hub_id(hub: Hub, local: Path) -> None:
    hub.publish("mood", COMMITS[0], local)
    done = hub.run("init", "ours/mood", "--name", "mood", "--output", "mood.yaml")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((hub.root / "mood.yaml").read_text())["checkpoint"]["path"] == "ours/mood"
    first = hub.build("mood.yaml", "repository")
    assert first.only.source.files == {"commit": COMMITS[0]}
    hub.assert_kept("mood.yaml", first)

    # Another commit of which only the weights differ is another model, not the cached one.
    scale(local / "model.safetensors")
    hub.publish("mood", COMMITS[1], local)
    second = hub.build("mood.yaml", "repository")
    assert second.only.source.files == {"commit": COMMITS[1]}
    graph = "mood_model/1/model.onnx"
    assert second.files[graph] != first.files[graph]


@pytest.mark.slow
def test_a_spec_may_hold_on_to_a_commit(hub: Hub, local: Path) -> None:
    for commit in COMMITS:
        hub.publish("mood", commit, local)
    spec = {
        "name": "mood",
        "task": "text-classification",
        "checkpoint": {"path": "ours/mood", "revision": COMMITS[0]},
    }
    (hub.root / "held.yaml").write_text(json.dumps(spec))
    assert hub.build("held.yaml", "held").only.source.files == {"commit": COMMITS[0]}


@pytest.mark.slow
def test_an_arr_coc_of_a_hub_id(hub: Hub) -> None:
    hub.publish("tiny", COMMITS[0], TINY)
    spec = {
        "name": "arr_coc",
        "checkpoint": {"path": "ours/tiny"},
        "grid": {"rows": 4, "cols": 4},
        "kept_tokens": 5,
        "stages": {"language": {"max_sequence_length": 256}},
        "limits": {"max_query_tokens": 16, "max_tokens": 16, "default_max_tokens": 8},
    }
    (hub.root / "spec.yaml").write_text(json.dumps(spec))
    manifest = hub.build("spec.yaml", "repository")
    assert manifest.only.source.files == {"commit": COMMITS[0]}
    assert all(row["passed"] for row in manifest.only.parity)
    hub.assert_kept("spec.yaml", manifest)

    other = shutil.copytree(TINY, hub.root / "other")
    scale(other / "arr_coc.safetensors")
    hub.publish("tiny", COMMITS[1], other)
    again = hub.build("spec.yaml", "repository")
    assert again.only.source.files == {"commit": COMMITS[1]}
    graph = "relevance/1/model.onnx"
    assert again.files[graph] != manifest.files[graph]


def test_a_hub_id_that_is_not_there(hub: Hub) -> None:
    for arguments in (
        ("init", "ours/nothing", "--output", "spec.yaml"),
        ("build", "spec.yaml", "--output", "repository"),
    ):
        text = json.dumps(
            {"name": "x", "task": "fill-mask", "checkpoint": {"path": "ours/nothing"}}
        )
        if arguments[0] == "build":
            (hub.root / "spec.yaml").write_text(text)
        done = hub.run(*arguments)
        assert done.returncode == 2
        assert "ours/nothing" in done.stderr and "Traceback" not in done.stderr
    assert not (hub.root / "repository").exists()

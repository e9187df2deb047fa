import errno
import json
import os
from pathlib import Path

import pytest

from builder.cache import store as store_module
from builder.cache.key import cache_key
from builder.cache.store import Store, default_folder
from builder.cache.verified import make_verified, take_verified
from builder.spec.models import Tolerance
from builder.verify.measure import ParityRow


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights" * 100)
    return path


def taken(store: Store, key: str, folder: Path) -> object:
    folder.mkdir(exist_ok=True)
    return store.take(key, folder)


def test_what_is_put_is_taken_out(tmp_path: Path, artifact: Path) -> None:
    store = Store(tmp_path / "cache")
    assert taken(store, "a", tmp_path / "out") is None
    assert store.put("a", [artifact], {"rows": [1]})
    assert taken(store, "a", tmp_path / "out") == {"rows": [1]}
    assert (tmp_path / "out" / "model.onnx").read_bytes() == artifact.read_bytes()


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "entry", "list"])
def test_a_damaged_entry_is_dropped(tmp_path: Path, artifact: Path, damage: str) -> None:
    store = Store(tmp_path / "cache")
    store.put("a", [artifact], {})
    entry = tmp_path / "cache" / "artifacts" / "a"
    kept = entry / "files" / "model.onnx"
    match damage:
        case "changed":
            kept.write_bytes(b"WEIGHTS" * 100)
        case "cut":
            kept.write_bytes(kept.read_bytes()[:-1])
        case "gone":
            kept.unlink()
        case "entry":
            (entry / "entry.json").write_text("{")
        case "list":
            (entry / "entry.json").write_text(json.dumps([]))
    assert taken(store, "a", tmp_path / "out") is None
    assert not entry.exists() and list((tmp_path / "out").iterdir()) == []
    assert store.put("a", [artifact], {}) and taken(store, "a", tmp_path / "out") == {}


def test_a_full_disk_of_the_target_leaves_the_entry(
    tmp_path: Path, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "cache")
    store.put("a", [artifact], {})

    def full(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:10])
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    with monkeypatch.context() as patch:
        patch.setattr(store_module.shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space left"):
            taken(store, "a", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    assert taken(store, "a", tmp_path / "out") == {}


def test_what_was_made_is_kept_without_what_was_there(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "cache"), tmp_path / "out"
    folder.mkdir()
    (folder / "model.py").write_text("")

    def make(error: float) -> list[ParityRow]:
        (folder / "decoder.onnx").write_bytes(b"weights")
        return [ParityRow("m", "logits", 1, error, 1.0, Tolerance(max_abs_error=1e-3))]

    make_verified(store, "bad", folder, lambda: make(1.0))
    assert take_verified(store, "bad", folder) is None
    (folder / "decoder.onnx").unlink()
    rows = make_verified(store, "good", folder, lambda: make(1e-4))
    (tmp_path / "other").mkdir()
    assert take_verified(store, "good", tmp_path / "other") == rows
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["decoder.onnx"]
    assert make_verified(None, "none", folder, lambda: make(1e-4)) == rows
    assert take_verified(None, "good", folder) is None


def test_the_longest_unused_go_first(tmp_path: Path, artifact: Path) -> None:
    store = Store(tmp_path / "cache", max_bytes=2000)
    for age, key in ((300, "a"), (200, "b")):
        store.put(key, [artifact], {})
        entry = tmp_path / "cache" / "artifacts" / key / "entry.json"
        os.utime(entry, (entry.stat().st_atime, entry.stat().st_mtime - age))
    assert taken(store, "a", tmp_path / "out") == {}  # used: now b is the oldest
    store.put("c", [artifact], {})
    assert taken(store, "b", tmp_path / "out") is None
    assert taken(store, "a", tmp_path / "out") == {} == taken(store, "c", tmp_path / "out")


def test_what_is_larger_than_the_cache_is_not_kept(tmp_path: Path, artifact: Path) -> None:
    store = Store(tmp_path / "cache", max_bytes=100)
    assert not store.put("a", [artifact], {})
    assert taken(store, "a", tmp_path / "out") is None


def test_a_key_is_all_that_it_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_key({"a": 1, "b": 2}) == cache_key({"b": 2, "a": 1})
    assert cache_key({"a": 1}) != cache_key({"a": 2})
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/triton-repository-builder")

import json
import os
from pathlib import Path

import pytest

from builder.cache.key import cache_key
from builder.cache.store import Store, default_folder


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

"""Publishing: one step or nothing, and nothing of others is lost."""

import json
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest

from builder.errors import PublishError
from builder.publish import staging as staging_module
from builder.publish.manifest import (
    Manifest,
    MemberRecord,
    VersionRecord,
    hashed_files,
    package_versions,
    read_manifest,
    sha256,
)
from builder.publish.staging import staging_folder


def write(folder: Path, model: str, content: str) -> None:
    (folder / model / "1").mkdir(parents=True)
    (folder / model / "1" / "model.onnx").write_text(content)


def publish(target: Path, model: str, content: str) -> list[str]:
    """One model in one member, as a build does it; names of what was kept."""
    with staging_folder(target) as staging:
        write(staging.path, model, content)
        carried = staging.carry({model})
        members = read_manifest(target).members
        record = MemberRecord(models=[model], versions={1: VersionRecord()})
        files = hashed_files(staging.path, [model])
        Manifest(members={**members, model: record}, files=files).write(staging.path)
        staging.publish()
        return carried


@pytest.fixture(params=["exchange", "two renames"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "two renames":
        monkeypatch.setattr(staging_module, "_exchange", lambda *_: False)


@pytest.mark.usefixtures("either_way")
def test_a_second_build_replaces_the_first_and_keeps_everything_else(tmp_path: Path) -> None:
    target = tmp_path / "repo"
    assert publish(target, "ours", "one") == []
    (target / "theirs" / "1").mkdir(parents=True)
    (target / "theirs" / "1" / "model.onnx").write_text("theirs")
    (target / "NOTES.txt").write_text("notes")
    assert publish(target, "ours", "two") == ["NOTES.txt", "theirs"]
    assert publish(target, "other", "three") == ["NOTES.txt", "ours", "theirs"]
    assert (target / "ours" / "1" / "model.onnx").read_text() == "two"
    assert (target / "other" / "1" / "model.onnx").read_text() == "three"
    assert (target / "theirs" / "1" / "model.onnx").read_text() == "theirs"
    assert (target / "NOTES.txt").read_text() == "notes"
    assert read_manifest(target).owners == {"ours": "ours", "other": "other"}
    assert [p.name for p in tmp_path.iterdir() if "staging" in p.name] == []


@pytest.mark.usefixtures("either_way")
def test_what_others_write_meanwhile_is_not_lost(tmp_path: Path) -> None:
    target = tmp_path / "repo"
    publish(target, "ours", "one")
    (target / "theirs" / "1").mkdir(parents=True)
    (target / "theirs" / "1" / "model.onnx").write_text("before")
    with staging_folder(target) as staging:
        write(staging.path, "ours", "two")
        staging.carry({"ours"})
        (target / "theirs" / "1" / "model.onnx").unlink()
        (target / "theirs" / "1" / "model.onnx").write_text("after")
        (target / "theirs" / "2").mkdir()
        (target / "NEW.txt").write_text("new")
        staging.publish()
    assert (target / "ours" / "1" / "model.onnx").read_text() == "two"
    assert (target / "theirs" / "1" / "model.onnx").read_text() == "after"
    assert (target / "theirs" / "2").is_dir()
    assert (target / "NEW.txt").read_text() == "new"


def test_an_error_changes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "repo"
    publish(target, "m", "old")
    with pytest.raises(RuntimeError), staging_folder(target) as staging:
        write(staging.path, "m", "new")
        raise RuntimeError
    assert (target / "m" / "1" / "model.onnx").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir() if "staging" in p.name] == []


def _build_and_hang(target: Path, ready: "multiprocessing.synchronize.Event") -> None:
    with staging_folder(target) as staging:
        write(staging.path, "m", "half")
        staging.carry({"m"})
        ready.set()
        threading.Event().wait()


def test_a_killed_build_changes_nothing_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    target = tmp_path / "repo"
    publish(target, "m", "old")
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_build_and_hang, args=(target, ready))
    process.start()
    assert ready.wait(30)
    waited = threading.Event()

    def wait_for_it() -> None:
        with staging_folder(target, waited.set):
            pass

    second = threading.Thread(target=wait_for_it)
    second.start()
    assert waited.wait(30)
    assert second.is_alive()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    second.join(30)
    assert not second.is_alive()
    process.join(30)
    assert (target / "m" / "1" / "model.onnx").read_text() == "old"
    publish(target, "m", "new")
    assert (target / "m" / "1" / "model.onnx").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir() if "staging" in p.name] == []


def test_a_failing_move_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "repo"
    publish(target, "m", "old")

    def refuse(*_: object) -> bool:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(staging_module, "_exchange", refuse)
    with pytest.raises(PublishError, match="unchanged"):
        publish(target, "m", "new")
    assert (target / "m" / "1" / "model.onnx").read_text() == "old"


def test_there_is_always_a_complete_repository(tmp_path: Path) -> None:
    """A reader that looks all the time sees the old or the new one, never none or a mix."""
    target = tmp_path / "repo"
    publish(target, "m", "0")
    seen, stop = set(), threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.add((target / "m" / "1" / "model.onnx").read_text())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for i in range(1, 30):
        publish(target, "m", str(i))
    stop.set()
    watcher.join()
    assert seen <= {str(i) for i in range(30)}
    assert len(seen) > 1


def test_a_target_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "repo").write_text("")
    with pytest.raises(PublishError, match="is a file"), staging_folder(tmp_path / "repo"):
        pass


def test_the_manifest_lists_every_file_with_its_hash(tmp_path: Path) -> None:
    target = tmp_path / "repo"
    publish(target, "m", "content")
    manifest = read_manifest(target)
    assert set(manifest.files) == {"m/1/model.onnx"}
    assert manifest.files["m/1/model.onnx"].sha256 == sha256(target / "m/1/model.onnx")
    assert package_versions()["torch"].startswith("2.13.0")


def test_a_manifest_of_the_first_format_is_one_member(tmp_path: Path) -> None:
    first = {
        "models": ["a", "b"],
        "spec": {"name": "b"},
        "source": {"sha256": "x", "files": {"f": "y"}},
        "versions": {"torch": "2"},
        "parity": [{"artifact": "a"}],
        "files": {"a/1/m.onnx": {"bytes": 1, "sha256": "z"}},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(first))
    manifest = read_manifest(tmp_path)
    assert manifest.owners == {"a": "b", "b": "b"}
    assert manifest.only.packages == {"torch": "2"}
    assert manifest.only.parity == first["parity"]
    assert manifest.files["a/1/m.onnx"].bytes == 1


@pytest.mark.parametrize("junk", ["", "[]", "{", '{"models": 3}', '{"models": [1, "a"]}'])
def test_a_broken_manifest_owns_nothing_it_does_not_name(tmp_path: Path, junk: str) -> None:
    (tmp_path / "manifest.json").write_text(junk)
    assert read_manifest(tmp_path).owners == {}

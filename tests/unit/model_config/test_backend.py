"""The local ONNX Runtime backend: tensors of ragged batches, and states of sequences."""

from typing import Any

import numpy as np
import pytest

from builder.runtime.backends.onnxruntime.batches import Batches
from builder.runtime.backends.onnxruntime.states import States

# Two rows of [3, 1] and one of [2, 2], as the proto's own comments have them.
REQUESTS = [
    {"x": np.arange(6, dtype=np.float32).reshape(2, 3, 1)},
    {"x": np.arange(4, dtype=np.float32).reshape(1, 2, 2)},
]


def config(kind: str = "BATCH_ELEMENT_COUNT", data_type: str = "TYPE_INT32") -> dict[str, Any]:
    return {
        "input": [{"name": "x", "dims": ["-1", "-1"], "allow_ragged_batch": True}],
        "output": [{"name": "y", "dims": ["-1", "-1"]}, {"name": "z", "dims": ["1", "1"]}],
        "batch_input": [
            {"kind": kind, "target_name": ["n"], "data_type": data_type, "source_input": ["x"]}
        ],
        "batch_output": [{"target_name": ["y"], "source_input": ["x"]}],
    }


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("BATCH_ELEMENT_COUNT", [6, 4]),
        ("BATCH_ACCUMULATED_ELEMENT_COUNT", [6, 10]),
        ("BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", [0, 6, 10]),
        ("BATCH_ITEM_SHAPE", [[3, 1], [3, 1], [2, 2]]),
        ("BATCH_ITEM_SHAPE_FLATTEN", [3, 1, 3, 1, 2, 2]),
    ],
)
def test_a_batch_input_is_what_the_proto_says(kind: str, wanted: list[Any]) -> None:
    feed = Batches.of(config(kind)).feed(REQUESTS)
    assert feed["n"].tolist() == wanted
    assert feed["n"].dtype == np.int32
    assert feed["x"].tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]


def test_a_largest_count_is_a_shape() -> None:
    feed = Batches.of(config("BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", "TYPE_FP32")).feed(REQUESTS)
    assert feed["n"].shape == (6,)
    assert feed["n"].dtype == np.float32


def test_a_batch_output_is_cut_by_the_shapes_of_its_input() -> None:
    batches = Batches.of(config())
    parts = batches.scatter("y", np.arange(10), REQUESTS)
    assert [part.shape for part in parts] == [(2, 3, 1), (1, 2, 2)]
    assert np.concatenate([part.reshape(-1) for part in parts]).tolist() == list(range(10))
    with pytest.raises(ValueError, match="has 9 values, the requests of its batch 10"):
        batches.scatter("y", np.arange(9), REQUESTS)


def states(now: list[float]) -> States:
    batching = {
        "max_sequence_idle_microseconds": 2_000_000,
        "state": [{"input_name": "in", "output_name": "out"}],
    }
    return States({"sequence_batching": batching}, lambda: now[0])


def ask(kept: States, sequence: int, *, start: bool = False) -> float:
    """The state that a request finds; 0 is the initial one."""
    inputs = {"in": np.zeros(1)}
    kept.fill(sequence, inputs, start=start)
    return float(inputs["in"][0])


def test_a_sequence_finds_what_it_left_until_it_starts_again_or_ends() -> None:
    kept = states([0.0])
    for sequence in (1, 2):
        kept.keep(sequence, {"out": np.array([10.0 * sequence])}, end=False)
    assert (ask(kept, 1), ask(kept, 2), ask(kept, 3)) == (10, 20, 0)
    assert ask(kept, 1, start=True) == 0
    kept.keep(2, {"out": np.array([30.0])}, end=True)
    assert ask(kept, 2) == 0


def test_what_fills_a_free_place_in_a_batch_leaves_nothing() -> None:
    kept = states([0.0])
    kept.keep(0, {"out": np.array([10.0])}, end=False)
    assert ask(kept, 0) == 0


def test_sequences_that_nobody_ends_are_forgotten() -> None:
    now = [0.0]
    kept = states(now)
    kept.keep(1, {"out": np.array([10.0])}, end=False)
    now[0] = 60.0
    kept.keep(2, {"out": np.array([20.0])}, end=False)
    assert ask(kept, 1) == 10
    now[0] = 63.0
    kept.keep(2, {"out": np.array([20.0])}, end=False)
    assert (ask(kept, 1), ask(kept, 2)) == (0, 20)

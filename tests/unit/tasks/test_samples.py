"""Padding changes no answer, and both exporters write the same graph."""

from typing import Any

import numpy as np
import onnx
import pytest

from builder.spec.releases import onnx_limits
from builder.tasks.export import export_graph
from builder.tasks.parity import verify_graph

from .conftest import HEADS, kind, run


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("task", HEADS)
def test_padding_does_not_change_the_answer(checkpoint: Any, family: str, task: str) -> None:
    made = kind(checkpoint(f"{family} {task}"), task)
    (graph,) = made.graphs()
    widths = set()
    for sample in graph.samples():
        inputs = dict(sample.inputs)
        widths.add(inputs["input_ids"].shape[-1])
        assert inputs["input_ids"].shape[-1] in made.buckets
        found = dict(zip((t.name for t in graph.outputs), run(graph, inputs), strict=True))
        assert set(sample.wanted) == set(found)
        for name, wanted in sample.wanted.items():
            valid = sample.valid.get(name, ...)
            np.testing.assert_allclose(found[name][valid], wanted[valid], atol=2e-4)
            assert float(np.std(wanted[valid])) > 0.05, "a constant would agree with anything"
    assert len(widths) > 1


@pytest.mark.parametrize("task", ["text-classification", "question-answering"])
def test_exporters_agree(checkpoint: Any, task: str, tmp_path: Any) -> None:
    made = kind(checkpoint(f"bert {task}"), task)
    (graph,) = made.graphs()
    wanted = None
    for exporter in ("transformers", "torch"):
        path = tmp_path / f"{exporter}.onnx"
        export_graph(graph, path, exporter, onnx_limits("24.10"))
        model = onnx.load(path).graph
        seen = [
            [(value.name, value.type.tensor_type.elem_type, _dims(value)) for value in values]
            for values in (model.input, model.output)
        ]
        assert [name for name, _, _ in seen[0]] == [t.name for t in made.tokens]
        assert [name for name, _, _ in seen[1]] == [t.name for t in made.raws]
        assert wanted in (None, seen)
        wanted = seen
        rows = verify_graph(graph.name, path, list(graph.samples()), made.spec.tolerance)
        assert all(row.passed for row in rows)


def _dims(value: Any) -> list[int]:
    """Fixed dims; -1 where the dim varies."""
    dims = value.type.tensor_type.shape.dim
    return [-1 if dim.dim_param or not dim.dim_value else dim.dim_value for dim in dims]


def test_pairs_have_token_types_only_where_the_tokenizer_gives_them(checkpoint: Any) -> None:
    def names(name: str, task: str) -> list[str]:
        return [tensor.name for tensor in kind(checkpoint(f"{name} {task}"), task).tokens]

    plain = ["input_ids", "attention_mask"]
    assert names("bert", "text-classification") == [*plain, "token_type_ids"]
    assert names("bert", "question-answering") == [*plain, "token_type_ids"]
    assert names("roberta", "text-classification") == plain
    assert names("roberta", "question-answering") == plain
    assert names("bert", "fill-mask") == plain

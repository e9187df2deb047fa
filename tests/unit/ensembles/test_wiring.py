"""Types, dims and batching of an ensemble come from its steps; what does not fit is a sentence."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.ensembles.neighbours import _needed
from builder.ensembles.wiring import Known, Wiring, _agreed
from builder.errors import SpecError
from builder.render.model_config import ModelConfig, Tensor
from builder.spec.ensemble import Ensemble

TEXT = Tensor("TEXT", "STRING", (1,))
PAIR = Tensor("TEXT_PAIR", "STRING", (1,), optional=True)


def known(
    inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], max_batch_size: int = 8
) -> Known:
    return Known(max_batch_size, {t.name: t for t in inputs}, {t.name: t for t in outputs})


MODELS = {
    "encoder": known((TEXT, PAIR), (Tensor("EMBEDDING", "FP32", (384,)),), 16),
    "head": known((Tensor("x", "FP32", (384,)),), (Tensor("y", "FP32", (4,)),)),
    "free": known((Tensor("x", "FP32", (-1,)),), (Tensor("y", "FP32", (-1,)),)),
    "bare": known((Tensor("x", "FP32", (-1, 384)),), (Tensor("y", "INT64", (-1,)),), 0),
    "narrow": known((Tensor("x", "FP32", (128,)),), (Tensor("y", "FP32", (4,)),)),
    "integer": known((Tensor("x", "INT64", (384,)),), (Tensor("y", "FP32", (4,)),)),
    "two": known(
        (Tensor("a", "FP32", (4,)), Tensor("b", "FP32", (4,))), (Tensor("c", "FP32", (4,)),)
    ),
}


def step(model: str, given: dict[str, str], made: dict[str, str]) -> dict[str, Any]:
    return {"model": model, "in": given, "out": made}


def wire(*steps: dict[str, Any], **values: Any) -> ModelConfig:
    spec = Ensemble.model_validate({"name": "e", "steps": list(steps), **values})
    return Wiring(spec, MODELS).config()


ENCODE = step("encoder", {"TEXT": "TEXT"}, {"EMBEDDING": "vector"})


def test_everything_but_names_is_inferred() -> None:
    config = wire(step("head", {"x": "vector"}, {"y": "SCORES"}), ENCODE)
    assert config.inputs == (TEXT,)
    assert config.outputs == (Tensor("SCORES", "FP32", (4,)),)
    assert config.max_batch_size == 8, "the least of the steps"
    assert [one.model_name for one in config.steps] == ["encoder", "head"], "in their order"


def test_an_input_that_every_step_may_lack_is_optional() -> None:
    steps = [step("encoder", {"TEXT": "A", "TEXT_PAIR": "B"}, {"EMBEDDING": "v"})]
    wiring = Wiring(Ensemble.model_validate({"name": "e", "steps": steps}), MODELS)
    assert [(t.name, t.optional) for t in wiring.inputs()] == [("A", False), ("B", True)]
    # The config says it of both: Triton would never answer a request with B and without A.
    assert [(t.name, t.optional) for t in wiring.config().inputs] == [("A", True), ("B", True)]


def test_an_ensemble_as_a_step_needs_what_its_own_steps_need() -> None:
    own = {name: Tensor(name, "STRING", (1,), optional=True) for name in ("A", "B", "C")}
    inner = {"TEXT": TEXT, "PAIR": Tensor("PAIR", "STRING", (1,), optional=True)}
    steps = [("encoder", {"TEXT": "A", "PAIR": "B"}), ("unknown", {"X": "C"})]
    needed = _needed(own, steps, {"encoder": inner})
    assert {name: tensor.optional for name, tensor in needed.items()} == {
        "A": False,
        "B": True,
        "C": True,
    }


def test_a_step_without_a_batch_dim_makes_the_ensemble_one() -> None:
    config = wire(ENCODE, step("bare", {"x": "vector"}, {"y": "LABEL"}))
    assert config.max_batch_size == 0
    assert config.inputs == (Tensor("TEXT", "STRING", (-1, 1)),)
    assert config.outputs == (Tensor("LABEL", "INT64", (-1,)),)


def test_a_free_dim_takes_the_one_that_is_known() -> None:
    config = wire(
        step("free", {"x": "shared"}, {"y": "one"}), step("head", {"x": "shared"}, {"y": "two"})
    )
    assert config.inputs == (Tensor("shared", "FP32", (384,)),)
    assert config.outputs == (Tensor("one", "FP32", (-1,)), Tensor("two", "FP32", (4,)))


def test_outputs_may_be_named_though_a_step_takes_them() -> None:
    config = wire(
        ENCODE, step("head", {"x": "vector"}, {"y": "s"}), outputs=["vector", "s"]
    )  # fmt: skip
    assert [t.name for t in config.outputs] == ["vector", "s"]


@pytest.mark.parametrize(
    ("steps", "values", "words"),
    [
        (
            [step("two", {"a": "p", "b": "q"}, {"c": "r"}), step("free", {"x": "r"}, {"y": "q"})],
            {},
            "the steps wait for each other in a circle: two -> free -> two",
        ),
        ([step("head", {"x": "s"}, {"y": "s"})], {}, "in a circle: head -> head"),
        ([ENCODE, step("narrow", {"x": "vector"}, {"y": "s"})], {}, "'vector' is FP32 .-1, 384."),
        ([ENCODE, step("integer", {"x": "vector"}, {"y": "s"})], {}, "INT64 .-1, 384. in integer"),
        ([step("two", {"a": "p"}, {"c": "r"})], {}, "nothing is given to input 'b' of two"),
        ([step("head", {"z": "p"}, {"y": "r"})], {}, "head has no input 'z'; it has x"),
        ([step("head", {"x": "p"}, {"z": "r"})], {}, "head has no output 'z'; it has y"),
        (
            [step("head", {"x": "p"}, {"y": "r"}), step("narrow", {"x": "q"}, {"y": "r"})],
            {},
            "head and narrow both make 'r'",
        ),
        ([ENCODE], {"outputs": ["nothing"]}, "no step makes 'nothing'; they make vector"),
    ],
)
def test_what_does_not_fit(steps: list[dict[str, Any]], values: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        wire(*steps, **values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": []}, "at least 1"),
        ({"steps": [step("head", {"x": ""}, {"y": "r"})]}, "a tensor has no name"),
        ({"steps": [step("encoder", {}, {"a": "r", "b": "r"})]}, "two outputs become 'r'"),
        ({"steps": [{"model": "head", "in": {}, "out": {}}]}, "at least 1"),
    ],
)
def test_what_is_no_ensemble(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Ensemble.model_validate({"name": "e", **values})


dims = st.lists(st.sampled_from([-1, 1, 2, 3]), max_size=3).map(tuple)


@given(dims, dims)
def test_agreed_dims_fit_both(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    found = _agreed(first, second)
    assert found == _agreed(second, first)
    if found is None:
        assert len(first) != len(second) or any(
            a != b and -1 not in (a, b) for a, b in zip(first, second, strict=True)
        )
        return
    for own in (first, second):
        assert all(a in (-1, b) for a, b in zip(own, found, strict=True))

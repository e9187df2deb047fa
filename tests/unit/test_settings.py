"""Settings of stages survive a model config's parameters."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.runtime.models.common.settings import from_parameters, read_settings, to_parameters


@dataclass(frozen=True)
class Inner:
    ids: tuple[int, ...]
    word: str
    rate: float | None


@dataclass(frozen=True)
class Every:
    text: str
    flag: bool
    count: int
    share: float
    maybe_text: str | None
    maybe_count: int | None
    ids: tuple[int, ...]
    names: tuple[str, ...]
    pair: tuple[int, str]
    several: list[float]
    limits: dict[str, int]
    shapes: tuple[dict[str, tuple[int, ...]], ...]
    anything: dict[str, Any]
    inner: Inner
    maybe_inner: Inner | None


NUMBERS = st.floats(allow_nan=False)
INNERS = st.builds(
    Inner, st.lists(st.integers()).map(tuple), st.text(max_size=9), st.none() | NUMBERS
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
SIZES = st.lists(st.integers(0, 512), max_size=3).map(tuple)
NAMES = st.text(max_size=9)
EVERY = st.builds(
    Every,
    text=NAMES,
    flag=st.booleans(),
    count=st.integers(),
    share=NUMBERS,
    maybe_text=st.none() | NAMES,
    maybe_count=st.none() | st.integers(),
    ids=SIZES,
    names=st.lists(NAMES, max_size=3).map(tuple),
    pair=st.tuples(st.integers(), NAMES),
    several=st.lists(NUMBERS, max_size=3),
    limits=st.dictionaries(NAMES, st.integers(), max_size=3),
    shapes=st.lists(st.dictionaries(NAMES, SIZES, max_size=2), max_size=2).map(tuple),
    anything=st.dictionaries(NAMES, JSON, max_size=2),
    inner=INNERS,
    maybe_inner=st.none() | INNERS,
)
ONE = Every(
    "a", True, 1, 0.5, None, None, (1, 2), ("x",), (1, "b"), [1.0], {"k": 3}, (), {},
    Inner((), "w", None), None,
)  # fmt: skip


@given(EVERY)
def test_what_is_written_is_read(settings: Every) -> None:
    values = to_parameters(settings)
    assert all(isinstance(value, str) for value in values.values())
    again = from_parameters(Every, {**values, "of_the_user": "1"})
    assert again == settings
    # Equality alone takes True for 1 and 1 for 1.0.
    assert repr(asdict(again)) == repr(asdict(settings))


def test_how_parameters_look() -> None:
    values = to_parameters(ONE)
    assert list(values) == [field.name for field in fields(Every)]
    assert (values["text"], values["flag"], values["count"]) == ("a", "true", "1")
    assert (values["maybe_count"], values["ids"], values["share"]) == ("null", "[1, 2]", "0.5")
    assert json.loads(values["inner"]) == {"ids": [], "word": "w", "rate": None}


@pytest.mark.parametrize("name", [field.name for field in fields(Every)])
def test_a_missing_parameter_is_named(name: str) -> None:
    values = to_parameters(ONE)
    del values[name]
    with pytest.raises(ValueError, match=f"^the parameter {name} is missing$"):
        from_parameters(Every, values)


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("flag", "yes", "bool"),
        ("flag", "1", "bool"),
        ("flag", "True", "bool"),
        ("count", "", "int"),
        ("count", "1.0", "int"),
        ("count", "true", "int"),
        ("count", "null", "int"),
        ("share", '"1"', "float"),
        ("share", "1" + "0" * 400, "float"),
        ("maybe_count", "", r"int \| None"),
        ("ids", "1,2", r"tuple\[int, \.\.\.\]"),
        ("ids", '{"1": 2}', r"tuple\[int, \.\.\.\]"),
        ("ids", '"12"', r"tuple\[int, \.\.\.\]"),
        ("ids", "[1, true]", r"tuple\[int, \.\.\.\]"),
        ("pair", '[1, "a", 2]', r"tuple\[int, str\]"),
        ("limits", "[]", r"dict\[str, int\]"),
        ("limits", '{"a": "1"}', r"dict\[str, int\]"),
        ("inner", '{"ids": []}', "Inner"),
        ("inner", '{"ids": [], "word": "", "rate": null, "more": 1}', "Inner"),
        ("inner", "[]", "Inner"),
    ],
)
def test_a_malformed_parameter_is_named(name: str, text: str, wanted: str) -> None:
    with pytest.raises(ValueError, match=f"^the parameter {name} is .*, not {wanted}$") as found:
        from_parameters(Every, {**to_parameters(ONE), name: text})
    assert repr(text) in str(found.value)


@given(
    st.sampled_from([f.name for f in fields(Every)]), st.text(max_size=12) | JSON.map(json.dumps)
)
def test_any_text_is_read_or_refused_in_one_sentence(name: str, text: str) -> None:
    try:
        settings = from_parameters(Every, {**to_parameters(ONE), name: text})
    except ValueError as error:
        assert str(error).startswith(f"the parameter {name} is ")
    else:
        assert from_parameters(Every, to_parameters(settings)) == settings or "NaN" in text


def test_a_versions_own_parameters_stand_over_the_configs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config: Mapping[str, Any] = {
        "parameters": {k: {"string_value": v} for k, v in to_parameters(ONE).items()}
    }
    assert read_settings(Every, config) == ONE
    module = "builder.runtime.models.common.settings.__file__"
    monkeypatch.setattr(module, str(tmp_path / "settings.py"))
    (tmp_path / "parameters.json").write_text(json.dumps({"count": "2", "text": "b"}))
    found = read_settings(Every, config)
    assert (found.count, found.text, found.ids) == (2, "b", ONE.ids)

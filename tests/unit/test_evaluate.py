"""`builder eval`: intervals, questions, tables, and what it says of a user's mistakes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from builder.errors import BuilderError
from builder.evaluate.accuracy import same, shares, wilson
from builder.evaluate.dataset import Digits, read_jsonl


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(counts: tuple[int, int]) -> None:
    right, asked = counts
    wanted = binomtest(right, asked).proportion_ci(0.95, method="wilson")
    assert wilson(right, asked) == pytest.approx((wanted.low, wanted.high), abs=1e-9)
    low, high = wilson(right, asked)
    assert 0 <= low <= right / asked <= high <= 1


def test_wilson_of_a_known_case() -> None:
    """Newcombe, "Two-sided confidence intervals for the single proportion", 1998, method 3."""
    assert wilson(90, 100) == pytest.approx((0.8256, 0.9448), abs=1e-4)


def test_wilson_of_nothing() -> None:
    assert wilson(0, 0) == (0, 1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_shares_add_up(pairs: list[tuple[str, bool]]) -> None:
    rows = shares([kind for kind, _ in pairs], [hit for _, hit in pairs])
    *kinds, total = rows
    assert (total.kind, total.asked) == ("all", len(pairs))
    assert total.right == sum(hit for _, hit in pairs) == sum(row.right for row in kinds)
    assert [row.kind for row in kinds] == sorted({kind for kind, _ in pairs})


def test_white_space_around_an_answer_does_not_count() -> None:
    assert same(" red\n", "red")
    assert not same("re d", "red")


def test_digits_are_held_out_and_drawn_from_the_seed() -> None:
    one, other = Digits(5, seed=3), Digits(5, seed=4)
    assert len(list(one)) == 5
    assert one[2] == Digits(3, seed=3)[2]
    assert [item.image for item in one] != [item.image for item in other]
    with pytest.raises(IndexError):
        one[5]


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"picture")
    file = tmp_path / "data.jsonl"
    line = {"image": "a.png", "prompt": "What?", "answer": "this"}
    file.write_text(json.dumps(line) + "\n\n" + json.dumps({**line, "kind": "odd"}) + "\n")
    items = read_jsonl(file)
    assert [(item.kind, item.image, item.answer) for item in items] == [
        ("all", b"picture", "this"),
        ("odd", b"picture", "this"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no question"),
        ("{", r"data.jsonl:1: not JSON"),
        ("[1]", r"data.jsonl:1: a line is an object"),
        ('{"image": "a.png", "prompt": "What?"}', r"data.jsonl:1: 'answer' is missing"),
        ('{"image": "b.png", "prompt": "", "answer": ""}', r":1: the picture can't be read"),
        ('{"image": "\\u0000", "prompt": "", "answer": ""}', r":1: the picture can't be read"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(text)
    with pytest.raises(BuilderError, match=says):
        read_jsonl(file)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give a spec, --url"),
        (["--url", "localhost:1", "--questions", "1"], "no server answers at localhost:1"),
        (["--url", "http://localhost:1"], "no scheme"),
        (["--url", "localhost:1", "--data", "nowhere.jsonl"], "nowhere.jsonl: can't be read"),
        (["specs/digits.yaml", "--json", "no/such/folder.json"], "its folder does not exist"),
        (["specs/digits.yaml", "--kept", "17", "--questions", "1"], "keeps at most 16"),
        (["specs/digits.yaml", "--kept", "16,no"], "--kept 16,no: not a list of whole numbers"),
        (["specs/digits.yaml", "--kept", "3,0"], "not a list of whole numbers from 1"),
        (["specs/digits.yaml", "--compare"], "--compare needs both"),
        (["nowhere.yaml"], "no such spec file"),
    ],
)
def test_a_users_mistake_is_a_sentence(arguments: list[str], says: str) -> None:
    command = [sys.executable, "-m", "builder", "eval", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_spec_of_another_kind_is_a_sentence(tmp_path: Path) -> None:
    spec = tmp_path / "sentences.yaml"
    spec.write_text("name: sentences\ntask: feature-extraction\ncheckpoint: {path: model}\n")
    done = subprocess.run(
        [sys.executable, "-m", "builder", "eval", str(spec)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "only those answer about pictures" in done.stderr

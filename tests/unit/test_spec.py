"""The spec file: what it accepts, and how it says no."""

import difflib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import SpecError
from builder.spec.load import load_spec
from builder.spec.models import Spec
from builder.spec.releases import onnx_limits
from builder.spec.schema import schema_text

ROOT = Path(__file__).parents[2]
MINIMAL = "name: x\ncheckpoint: {path: a}\n"


def load(tmp_path: Path, text: str) -> Spec:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    return load_spec(path)


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, text)
    return str(caught.value)


def test_minimal_spec_has_the_reference_figures(tmp_path: Path) -> None:
    spec = load(tmp_path, MINIMAL)
    assert (spec.grid.rows, spec.grid.cols, spec.kept_tokens) == (32, 32, 200)


def test_unknown_key_names_its_line_and_the_nearest_key(tmp_path: Path) -> None:
    text = MINIMAL + "stages:\n  vision:\n    max_bach_size: 4\n"
    message = refusal(tmp_path, text)
    assert "spec.yaml:5:" in message
    assert "'stages.vision.max_bach_size'" in message
    assert "did you mean 'max_batch_size'?" in message


@given(key=st.sampled_from(sorted(Spec.model_fields)), drop=st.integers(0, 30))
def test_a_misspelt_key_is_recognized(
    tmp_path_factory: pytest.TempPathFactory, key: str, drop: int
) -> None:
    misspelt = key[: drop % len(key)] + key[drop % len(key) + 1 :]
    if misspelt in Spec.model_fields or len(misspelt) < 3:
        return
    message = refusal(tmp_path_factory.mktemp("spec"), f"{MINIMAL}{misspelt}: 1\n")
    nearest = difflib.get_close_matches(misspelt, list(Spec.model_fields), n=1, cutoff=0.5)[0]
    assert f"unknown key '{misspelt}'; did you mean '{nearest}'?" in message


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ("kept_tokens: 2000", "kept_tokens 2000 is larger than the 1024 cells"),
        ("target: tpu", "target"),
        ("triton_release: latest", "triton_release"),
        ("stages: {vision: {max_batch_size: 0}}", "stages.vision.max_batch_size"),
        (
            "stages: {vision: {max_batch_size: 4, dynamic_batching: {preferred_batch_size: [8]}}}",
            "preferred_batch_size 8 is larger than max_batch_size 4",
        ),
        ("stages: {vision: {name: relevance}}", "two models are named 'relevance'"),
        ("stages: {vision: {name: ../../etc}}", "stages.vision.name"),
        ("limits: {max_tokens: 4, default_max_tokens: 8}", "default_max_tokens 8 is larger"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, extra: str, sentence: str) -> None:
    message = refusal(tmp_path, f"{MINIMAL}{extra}\n")
    assert sentence in message
    assert "spec.yaml" in message


def test_every_problem_is_listed(tmp_path: Path) -> None:
    message = refusal(tmp_path, "name: x\nkept_token: 1\ntarget: tpu\n")
    assert len(message.splitlines()) == 3  # unknown key, target, missing checkpoint


@given(st.binary(max_size=300))
def test_no_bytes_make_it_crash(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("spec") / "spec.yaml"
    path.write_bytes(data)
    with pytest.raises(SpecError):
        load_spec(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such spec file"):
        load_spec(tmp_path / "none.yaml")


def test_shipped_schema_is_current() -> None:
    assert (ROOT / "specs" / "spec.schema.json").read_text() == schema_text()
    json.loads(schema_text())


@pytest.mark.parametrize("release", ["23.01", "30.01"])
def test_releases_that_are_not_in_the_table_are_refused(release: str) -> None:
    with pytest.raises(SpecError, match=release):
        onnx_limits(release)
